"""The ways to run a step on this machine: isolations as root, an ordinary user, inside a container."""

import base64
import functools
import json
import os
import subprocess
import sys

import as_user
import pytest
from busybox_root import HOST_HOSTS, HOST_RESOLV, why_not_run

from run_step import (
    HostError,
    HostFacts,
    LocalExecutor,
    RequestError,
    RunRequest,
    RunResult,
    look_up,
    plan,
)
from run_step.helper_programs import find_runtime
from run_step.host import RuntimeFact
from run_step.isolation.runtimes import RUNTIMES, try_runtime
from run_step.linux.process import CAPABILITIES


def made_up_host():
    return HostFacts(
        capabilities=tuple(CAPABILITIES),
        runtimes=(RuntimeFact("runc", "/usr/sbin/runc", True),),
        hosts=HOST_HOSTS,
        resolv_conf=HOST_RESOLV,
        proxy=("http_proxy=http://proxy.example:3128", "NO_PROXY=localhost"),
    )


@functools.cache
def isolations():
    """``chroot``, and ``oci`` once for each runtime that works here; with none the skipped ``oci`` is shown."""
    paths = {name: find_runtime(name) for name in RUNTIMES} if not why_not_run() else {}
    working = [f"oci-{name}" for name, path in paths.items() if path and not try_runtime(path)]
    skipped = pytest.param("oci-runc", marks=pytest.mark.skip(reason="no OCI runtime works here"))
    return ["chroot", *(working or [skipped])]


class Step:
    """Runs commands in one root filesystem under one isolation and keeps what they printed."""

    def __init__(self, rootfs, isolation, work_dir, host):
        self.rootfs = rootfs
        self.isolation, _, self.runtime = isolation.partition("-")
        self.work_dir = work_dir
        self.executor = LocalExecutor(host, work_dir)
        self.stdout = b""
        self.stderr = b""

    def request(self, *args, **fields):
        return RunRequest(args, self.rootfs, isolation=self.isolation, runtime=self.runtime, **fields)

    def plan(self, *args, **fields):
        request = self.request(*args, **fields)
        return plan(request, look_up(request, self.executor.host(runtimes=False)))

    def run(
        self,
        *args,
        cancel=None,
        timeout=60,
        output=None,
        stdin=None,
        quiet=False,
        runtime_timeout=None,
        **fields,
    ):
        """Run a command; a single argument is a line for the shell."""
        command = args if len(args) > 1 else ("/bin/sh", "-c", *args)
        plan = self.plan(*command, **fields)
        chunks = {"stdout": [], "stderr": []}

        def keep(stream, data):
            chunks[stream].append(data)

        try:
            return self.executor.execute(
                plan,
                self.rootfs,
                output=output or keep,
                stdin=stdin,
                quiet=quiet,
                cancel=cancel,
                timeout=timeout,
                runtime_timeout=runtime_timeout,
            )
        finally:
            self.stdout, self.stderr = (b"".join(chunks[name]) for name in ("stdout", "stderr"))

    def text(self, *args, **fields):
        """What a command printed on stdout; it has to succeed."""
        result = self.run(*args, **fields)
        assert result.status == 0, (result, self.stdout[-500:], self.stderr[-500:])
        return self.stdout.decode()


class RemoteStep:
    """The same face as :class:`Step`, for steps that a process in another skin runs (see agent.py)."""

    def __init__(self, rootfs, isolation, work_dir, host, prefix):
        self.rootfs = rootfs
        self.isolation = isolation
        self.runtime = "runc" if isolation == "rootless" else ""
        self.work_dir = work_dir
        self._host = {
            "hosts": host.hosts,
            "resolv_conf": host.resolv_conf,
            "proxy": list(host.proxy),
            "hosts_mode": 0o644,
        }
        agent = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.py")
        path = os.path.join(as_user.PROJECT, "plugins") + ":" + as_user.PROJECT
        self.process = subprocess.Popen(
            [*prefix, sys.executable, agent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.stdout = b""
        self.stderr = b""
        self.warnings = []

    def request(self, *args, **fields):
        return RunRequest(args, self.rootfs, isolation=self.isolation, runtime=self.runtime, **fields)

    def ask(self, request, timeout=60, run=True, pristine="", read_only=False):
        job = {
            "request": request.to_json(),
            "host": self._host,
            "work_dir": self.work_dir,
            "timeout": timeout,
        }
        job |= {"run": run, "runtimes": False, "pristine": pristine, "read_only": read_only}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.stdout, self.stderr = (base64.b64decode(answer[name]) for name in ("stdout", "stderr"))
        self.warnings = answer["warnings"]
        if "error" in answer:
            kind, text = answer["error"]
            raise {"HostError": HostError, "RequestError": RequestError}.get(kind, OSError)(text)
        return answer

    def run(self, *args, timeout=60, **fields):
        command = args if len(args) > 1 else ("/bin/sh", "-c", *args)
        result = self.ask(self.request(*command, **fields), timeout)["result"]
        return RunResult(**{**result, "warnings": tuple(result.get("warnings", ()))})

    text = Step.text

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # a step in a container killed it
        self.process.wait(timeout=60)
        self.process.stdout.close()


CONFINED = [*isolations(), "rootless", "chroot as a user"]
"""The ways to run a step in namespaces of its own."""

EVERY = [*CONFINED, "chroot in a container"]
"""Every way to run a step that this machine has. The last one has chroot(2) alone: it keeps no step from killing
what runs beside it, so such things are only tried in there."""


def prefix_of(skin, home):
    """What goes before a command line to run it in this skin, an ordinary user's or a container's."""
    if "container" in skin:
        return [sys.executable, os.path.join(as_user.PROJECT, "tests", "as_container.py")]
    return as_user.words(as_user.make_home(home))
