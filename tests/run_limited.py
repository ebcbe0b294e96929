"""Runs the program many times, each time in a process of its own with limits: python run_limited.py < JOBS > RESULTS.

A job is ``{"args": […], "stdin": PATH, "seconds": N}``; a result ``{"status", "stderr", "rss", "seconds"}``, where
status is None for a process that took too long, and rss the most memory it had, in bytes. The program's modules are
loaded once: what they take is counted in each.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import time

ADDRESSES = 4 << 30


def run(job):
    begin = time.monotonic()
    with tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
                stdin = os.open(job.get("stdin") or os.devnull, os.O_RDONLY)
                os.dup2(stdin, 0)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(err.fileno(), 2)
                sys.stdin = os.fdopen(0)
                sys.argv = ["buildfront", *job["args"]]
                from buildfront.__main__ import main

                main()
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(end.code or 0)
            except BaseException:  # noqa: BLE001 - told, whatever it is
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(99)
            os._exit(0)
        end = begin + job.get("seconds", 60)
        while True:
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                _, _, usage = os.wait4(pid, 0)
                status = None
                break
            time.sleep(0.002)
        err.seek(0)
        return {
            "status": None if status is None else os.waitstatus_to_exitcode(status),
            "stderr": err.read().decode("utf-8", "replace"),
            "rss": usage.ru_maxrss << 10,
            "seconds": time.monotonic() - begin,
        }


def main():
    import buildfront.api.build
    import buildfront.api.transfers
    import buildfront.cli.build_command
    import buildfront.cli.load_command  # noqa: F401

    print(json.dumps([run(job) for job in json.load(sys.stdin)]))


main()
