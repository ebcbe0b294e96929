"""Runs the console script in forks of one process that has imported it, which saves the start of an interpreter.

:class:`ForkServer` is the client. Run as a program, this module is the server. Its children are the program itself,
with the environment, directory and standard streams of the caller. Use the real program where the start itself is
tested: imports, signals, the replay cache.
"""

from __future__ import annotations

import array
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import Any


class ForkServer:
    """Calls of the console script in forks of a server process, which begins with the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None = None,
        input: bytes = b"",
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``buildfront ARGS`` and return its status and what it wrote."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with (
            ours,
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(input)
            given.seek(0)
            request = {"args": list(args), "env": dict(env), "cwd": os.fspath(cwd) if cwd else os.getcwd()}
            request["umask"] = os.umask(0o022)
            os.umask(request["umask"])
            with theirs:
                fds = array.array("i", [stream.fileno() for stream in (given, out, err, theirs)])
                with self._lock:
                    if self._process is None:
                        self._start()
                    head = tempfile.TemporaryFile()  # a request may be larger than a datagram
                    with head:
                        head.write(json.dumps(request).encode())
                        head.flush()
                        fds.append(head.fileno())
                        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                        self._socket.sendmsg([b"run"], rights)
            answer = ours.recv(16)
            if not answer:
                raise RuntimeError("the fork server has ended")
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["buildfront", *args], int(answer), out.read(), err.read())

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            self._socket.close()
            self._process.wait()


def _serve(server: socket.socket) -> None:
    import buildfront.cli.build_command
    import buildfront.engine.walk
    import buildfront.progress  # noqa: F401
    from buildfront.__main__ import main

    waiting: dict[int, socket.socket] = {}
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    chooser = selectors.DefaultSelector()
    chooser.register(server, selectors.EVENT_READ)
    chooser.register(wake, selectors.EVENT_READ)
    while True:
        for key, _ in chooser.select():
            if key.fd == wake:
                os.read(wake, 4096)
                _reap(waiting)
                continue
            _, rights, _, _ = server.recvmsg(16, socket.CMSG_SPACE(5 * array.array("i").itemsize))
            if not rights:
                return
            fds = array.array("i", rights[0][2])
            with os.fdopen(fds[4], "rb") as stream:
                stream.seek(0)
                request = json.load(stream)
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                chooser.close()
                for fd in (wake, waker, server.fileno(), *(item.fileno() for item in waiting.values())):
                    os.close(fd)
                _become(request, list(fds[:4]), main)
            for fd in fds[:3]:
                os.close(fd)
            waiting[child] = socket.socket(fileno=fds[3])


def _reap(waiting: dict[int, socket.socket]) -> None:
    while waiting:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        caller = waiting.pop(child, None)
        if caller is not None:
            with caller:
                caller.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: Mapping[str, Any], fds: list[int], main: Any) -> None:
    """Be the program. Never returns."""
    for number in range(3):
        os.dup2(fds[number], number)
    for fd in fds:
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    sys.argv = ["buildfront", *request["args"]]
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    status: Any = 1
    try:
        main()
        status = 0
    except SystemExit as error:
        status = error.code
        if isinstance(status, str):
            sys.stderr.write(status + "\n")
            status = 1
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status or 0))


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
