"""Carry a plan out: the actions on the root filesystem, the isolation, and everything undone afterwards."""

from __future__ import annotations

import array
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .actions import prepare
from .errors import HostError
from .planning import BUNDLE, ROOTFS, RunPlan
from .rootfs import Created, Root
from .supervisor import LENGTH, send

Output = Callable[[str, bytes], None]


@dataclass(frozen=True)
class RunResult:
    """What became of a step. ``status`` is the exit status, or minus the number of the signal that killed it."""

    status: int
    wall_us: int
    user_us: int = 0
    system_us: int = 0
    max_rss: int = 0
    cancelled: bool = False
    timed_out: bool = False

    @property
    def exit_status(self) -> int:
        """The status as a shell reports it: 128 plus the number for a death by signal."""
        return self.status if self.status >= 0 else 128 - self.status

    def describe(self) -> str:
        """``exit status 3`` or ``killed by SIGKILL``."""
        if self.timed_out:
            return "stopped: the step took longer than its time limit"
        if self.status >= 0:
            return f"exit status {self.status}"
        try:
            return f"killed by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"killed by signal {-self.status}"


class Supervisor:
    """The process that steps hang on (:mod:`run_step.supervisor`), started when first needed.

    May be used by several threads at once. Close it when the build ends; if the builder dies, the supervisor
    and every step end with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> socket.socket:
        """The control socket, the process started if it was not yet."""
        with self._lock:
            if self._control is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                package = os.path.dirname(os.path.abspath(__file__))
                boot = f"import sys; sys.path.insert(0, {os.path.dirname(package)!r}); "
                boot += "from run_step.supervisor import main; main()"
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", boot],
                    stdin=theirs.fileno(),
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,
                )
                theirs.close()
                self._control = ours
            return self._control

    def spawn(self, job: dict[str, Any], streams: tuple[int, int, int]) -> socket.socket:
        """Start one run; the socket answers when it has ended, and closing it kills the step."""
        control = self.start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        fds = array.array("i", [theirs.fileno(), *streams])
        try:
            try:
                with self._lock:
                    control.sendmsg([b"r"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            finally:
                theirs.close()
            send(ours, job)
        except ConnectionError:
            ours.close()
            raise HostError("the steps' supervisor has ended; was it killed?") from None
        except BaseException:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End the process; runs that still go on are killed by the end of their own sockets."""
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._process is not None:
                self._process.wait()
                self._process = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def execute(
    plan: RunPlan,
    rootfs: str,
    *,
    output: Output | None = None,
    supervisor: Supervisor | None = None,
    work_dir: str | None = None,
    cancel: threading.Event | None = None,
    timeout: float | None = None,
) -> RunResult:
    """Run ``plan`` in ``rootfs`` and wait for it.

    ``output`` receives ``("stdout"|"stderr", bytes)`` as they come; without it both go to ours.
    ``work_dir`` is where the private bundle is made. ``cancel`` and ``timeout`` (seconds) kill the step.

    Guarantees, in every outcome: no process of the step, no mount and no bundle remains, and mount points made
    for the step are gone from ``rootfs`` unless the step put something in them.

    Raises HostError when the step could not be started. A command that fails is a result, not an error.
    """
    _refuse(plan)
    own = supervisor is None
    supervisor = supervisor or Supervisor()
    bundle = tempfile.mkdtemp(prefix="bundle-", dir=work_dir)
    try:
        with Root(rootfs) as root:
            created: list[Created] = []
            try:
                prepare(plan, root, bundle, created)
                return _run(plan, rootfs, bundle, supervisor, output or _passthrough, cancel, timeout)
            finally:
                root.remove_mount_point(created)
    finally:
        shutil.rmtree(bundle, ignore_errors=True)
        if own:
            supervisor.close()


def _refuse(plan: RunPlan) -> None:
    """What can be planned and not yet be carried out, told before anything is changed."""
    later = "is planned, but can't be carried out yet"
    if plan.isolation == "rootless":
        raise HostError(f"isolation 'rootless' {later}; use 'oci' or 'chroot' as root")
    if os.geteuid() != 0:
        raise HostError("a RUN step needs root for now: run the build as root")
    if plan.network.mode not in ("host", "none", "path"):
        asked = ",".join(plan.network.names) or plan.network.mode
        raise HostError(f"network {asked!r} {later}; use host, none or ns:PATH")
    if plan.spec["process"].get("terminal"):
        raise HostError(f"a terminal for a step {later}; use terminal 'without'")
    if plan.isolation == "chroot" and plan.spec["linux"].get("uidMappings"):
        raise HostError(f"a user namespace with chroot isolation {later}; use --isolation oci")
    if plan.isolation == "chroot" and any(
        item["type"] == "user" for item in plan.spec["linux"]["namespaces"]
    ):
        raise HostError(f"a user namespace with chroot isolation {later}; use --isolation oci")


def _passthrough(stream: str, data: bytes) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.buffer.write(data)
    target.buffer.flush()


_OVERLAY = ("upperdir=", "workdir=")
"""The mount options that hold a token behind their name; what a user gives there is an absolute path."""


def materialise(value: Any, rootfs: str, bundle: str) -> Any:
    """The plan's JSON values with real paths for its tokens."""
    if isinstance(value, str):
        head = next((name for name in _OVERLAY if value.startswith(name + BUNDLE)), "")
        if value.startswith((head + ROOTFS, head + BUNDLE)):
            return value.replace(ROOTFS, rootfs, 1).replace(BUNDLE, bundle, 1)
        return value
    if isinstance(value, dict):
        return {key: materialise(item, rootfs, bundle) for key, item in value.items()}
    if isinstance(value, list):
        return [materialise(item, rootfs, bundle) for item in value]
    return value


def _real_spec(spec: dict[str, Any], rootfs: str, bundle: str) -> dict[str, Any]:
    """The process is left alone: a token that stands in the user's own command or environment is text."""
    return {
        key: value if key == "process" else materialise(value, rootfs, bundle) for key, value in spec.items()
    }


def write_bundle(plan: RunPlan, directory: str) -> None:
    """Complete ``directory``, which has a ``rootfs``, to a bundle that ``runc run`` executes with the same result.

    The root filesystem is changed as a run would change it before the command. Raises OSError.
    """
    from .isolation.oci import write_config

    rootfs = os.path.join(directory, "rootfs")
    with Root(rootfs) as root:
        prepare(plan, root, directory, [])
    write_config(directory, _real_spec(plan.spec, rootfs, directory))


def _run(
    plan: RunPlan,
    rootfs: str,
    bundle: str,
    supervisor: Supervisor,
    output: Output,
    cancel: threading.Event | None,
    timeout: float | None,
) -> RunResult:
    job = {
        "isolation": plan.isolation,
        "spec": _real_spec(plan.spec, rootfs, bundle),
        "rootfs": rootfs,
        "bundle": bundle,
        "state": os.path.join(bundle, "runtime"),
        "runtime": plan.runtime or "runc",
        "runtime_flags": list(plan.runtime_flags),
        "no_pivot": plan.no_pivot,
        "container_id": f"buildfront-{plan.container_id[:12]}-{os.path.basename(bundle)[7:]}",
    }
    if plan.isolation == "chroot" and "seccomp" in plan.spec["linux"]:
        from .linux.seccomp import compile_filter

        try:
            job["seccomp"] = compile_filter(plan.spec["linux"]["seccomp"]).hex()
        except OSError as error:
            raise HostError(f"the seccomp filter can't be made: {error.strerror or error}") from None
    began = time.monotonic()
    stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    try:
        run = supervisor.spawn(job, (stdin, out_w, err_w))
    except BaseException:
        os.close(out_r)
        os.close(err_r)
        raise
    finally:
        for fd in (stdin, out_w, err_w):
            os.close(fd)
    try:
        answer, timed_out = _relay(run, {out_r: "stdout", err_r: "stderr"}, output, cancel, timeout)
    except BaseException:
        # What is undone after this must not be undone below a step that still runs.
        _kill(run)
        _await_end(run)
        raise
    finally:
        run.close()
        os.close(out_r)
        os.close(err_r)
    wall = int((time.monotonic() - began) * 1e6)
    if answer is None:
        raise HostError("the step's supervisor ended before the step did; was it killed?")
    if "error" in answer:
        raise HostError(answer["error"])
    if "setup" in answer:
        raise HostError(answer["setup"])
    return RunResult(
        status=answer["status"],
        wall_us=wall,
        user_us=answer["user_us"],
        system_us=answer["system_us"],
        max_rss=answer["max_rss"],
        cancelled=answer["cancelled"],
        timed_out=timed_out,
    )


def _relay(
    run: socket.socket,
    pipes: dict[int, str],
    output: Output,
    cancel: threading.Event | None,
    timeout: float | None,
) -> tuple[dict[str, Any] | None, bool]:
    """Pass output on until the run has answered and the pipes have nothing more to give at once."""
    deadline = None if timeout is None else time.monotonic() + timeout
    raw = b""
    ended = timed_out = stopped = False
    with selectors.DefaultSelector() as selector:
        selector.register(run, selectors.EVENT_READ)
        for fd in pipes:
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ)
        while not ended:
            wait = 0.2 if cancel is not None else None
            if deadline is not None and not stopped:
                left = max(0.0, deadline - time.monotonic())
                wait = left if wait is None else min(wait, left)
            for key, _ in selector.select(wait):
                if key.fileobj is run:
                    chunk = run.recv(65536)
                    raw += chunk
                    ended = not chunk or (len(raw) >= LENGTH.size and len(raw) >= LENGTH.size + _size(raw))
                elif not _pass_on(key.fd, pipes[key.fd], output):
                    selector.unregister(key.fd)
            timed_out = timed_out or (deadline is not None and time.monotonic() >= deadline and not ended)
            if not stopped and not ended and (timed_out or (cancel is not None and cancel.is_set())):
                stopped = True
                _kill(run)
    # The step is over. What a process that still holds the pipe may write later is nobody's output.
    for fd, name in pipes.items():
        while _pass_on(fd, name, output, again=True):
            pass
    if len(raw) < LENGTH.size or len(raw) < LENGTH.size + _size(raw):
        return None, timed_out
    return json.loads(raw[LENGTH.size :]), timed_out


def _kill(run: socket.socket) -> None:
    try:
        run.send(b"k")
    except OSError:
        pass  # it has just ended


def _await_end(run: socket.socket) -> None:
    try:
        while run.recv(65536):
            pass
    except OSError:
        pass  # ended with our word unread


def _size(raw: bytes) -> int:
    size: int = LENGTH.unpack(raw[: LENGTH.size])[0]
    return size


def _pass_on(fd: int, name: str, output: Output, again: bool = False) -> bool:
    """Read once; False at the end of the stream (with ``again``, also when there is nothing just now)."""
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return not again
    if data:
        output(name, data)
    return bool(data)
