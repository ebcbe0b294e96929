"""Carry a plan out: the actions on the root filesystem, the isolation, and everything undone afterwards."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .actions import Undo, prepare
from .errors import HostError
from .inputs import Inputs
from .option_text import size_text
from .planning import BUNDLE, ROOTFS, RunPlan, host_id
from .programs import Start, explain, printed, reason, said
from .rootfs import Root
from .secret_files import pack
from .stdio.own_terminal import size_of
from .stdio.relay import Output as Output
from .stdio.relay import Relay, await_end, kill
from .supervisor import LENGTH, LIBRARY, RUN, send
from .trees import remove_tree


@dataclass(frozen=True)
class RunResult:
    """What became of a step. ``status`` is the exit status, or minus the number of the signal that killed it.

    Times are microseconds, sizes bytes. ``measured`` says how: ``cgroup``, where everything that ran counts, or
    ``rusage``, where no group could be made: then only what the command itself waited for. ``peak_memory`` (page
    cache included) and the block I/O are None where the kernel does not tell. ``max_rss`` is always of the largest
    single process (getrusage(2)). ``oom_kills``: how many processes the kernel killed because the step ran into a
    memory limit, ``memory_limit``.
    """

    status: int
    wall_us: int
    user_us: int = 0
    system_us: int = 0
    max_rss: int = 0
    cancelled: bool = False
    timed_out: bool = False
    measured: str = "rusage"
    peak_memory: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    oom_kills: int = 0
    memory_limit: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """The status as a shell reports it: 128 plus the number for a death by signal."""
        return self.status if self.status >= 0 else 128 - self.status

    def describe(self) -> str:
        """``exit status 3`` or ``killed by SIGKILL``; of a step that ran out of memory it says so."""
        if self.timed_out:
            return "stopped: the step took longer than its time limit"
        return self._how() + self._memory()

    def _how(self) -> str:
        if self.status >= 0:
            return f"exit status {self.status}"
        from .isolation.waiting import died_of

        return died_of(-self.status)

    def _memory(self) -> str:
        if not self.oom_kills or not self.status:
            return ""
        limit = (
            f"its memory limit of {size_text(self.memory_limit)}" if self.memory_limit else "a memory limit"
        )
        count = "a process" if self.oom_kills == 1 else f"{self.oom_kills} processes"
        return f": the step ran into {limit}, and the kernel killed {count} of it"

    def usage(self) -> dict[str, int | str]:
        """What it used, for events and records: JSON values; what is not known is left out."""
        names = (
            "wall_us",
            "user_us",
            "system_us",
            "max_rss",
            "peak_memory",
            "read_bytes",
            "write_bytes",
            "oom_kills",
        )
        found = {name: getattr(self, name) for name in names}
        if self.measured == "rusage":
            del found["oom_kills"]
        known: dict[str, int | str] = {name: value for name, value in found.items() if value is not None}
        return {"measured": self.measured, **known}


class Supervisor:
    """The process that steps hang on (:mod:`run_step.supervisor`), started when first needed.

    May be used by several threads at once. Close it when the build ends; if the builder dies, the supervisor
    and every step end with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._has_library = False

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

    def spawn(self, job: dict[str, Any], streams: tuple[int, ...]) -> socket.socket:
        """Start one run; the socket answers when it has ended, and closing it kills the step."""
        control = self.start()
        library = os.fsencode(job.get("network", {}).get("library", ""))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        fds = array.array("i", [theirs.fileno(), *streams])
        try:
            try:
                with self._lock:
                    if library and not self._has_library:
                        control.sendall(LIBRARY + LENGTH.pack(len(library)) + library)
                        self._has_library = True
                    control.sendmsg([RUN], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
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
            self._has_library = False

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def execute(
    plan: RunPlan,
    rootfs: str,
    *,
    output: Output | None = None,
    stdin: int | None = None,
    quiet: bool = False,
    supervisor: Supervisor | None = None,
    work_dir: str | None = None,
    cancel: threading.Event | None = None,
    timeout: float | None = None,
    runtime_timeout: float | None = None,
    inputs: Inputs | None = None,
) -> RunResult:
    """Run ``plan`` in ``rootfs`` and wait for it.

    ``output`` receives ``("stdout"|"stderr", bytes)`` as they come, what a terminal shows as stdout; without it both
    go to ours. ``quiet`` drops stdout. ``stdin`` is a descriptor whose content the step may read, up to its end;
    without it the step's input is empty. Where the plan gives the step a terminal, a ``stdin`` that is one is made raw
    meanwhile, and its changes of size are passed on. ``work_dir`` is where the private bundle is made. ``cancel`` and
    ``timeout`` (seconds) kill the step; ``runtime_timeout`` is how long an OCI runtime may take for one of its calls.
    ``inputs`` is what the mounts of the RUN instruction need. Secrets are in memory alone; the step's environment
    holds those that it takes as variables.

    Guarantees, in every outcome: no process of the step, no mount and no bundle remains, mount points made for the
    step are gone from ``rootfs`` unless the step put something in them, and the terminal is as it was.

    Raises HostError when the step could not be started. A command that fails is a result, not an error.
    """
    _refuse(plan)
    inputs = inputs or Inputs()
    inputs.check(plan)
    own = supervisor is None
    supervisor = supervisor or Supervisor()
    # Before anything is opened that could get the number of a descriptor that is closed.
    source = _input(stdin)
    # What is copied for the step into its bundle may have the set-user-ID bit: it lies where nobody else can reach it.
    closed = work_dir or tempfile.mkdtemp(prefix="buildfront-")
    bundle = tempfile.mkdtemp(prefix="bundle-", dir=closed)
    try:
        with Root(rootfs) as root:
            undo = Undo(root, bundle)
            try:
                plan = prepare(plan, root, bundle, undo, inputs)
                step = _Step(plan, rootfs, bundle, source, quiet, runtime_timeout, inputs)
                start = Start(output or _passthrough)
                name = plan.spec["process"]["args"][0]
                try:
                    result = step.run(supervisor, start, cancel, timeout)
                except HostError as error:
                    if number := said(str(error), name):
                        raise HostError(explain(root, plan.spec, number)) from None
                    raise
                number = 0 if plan.isolation == "chroot" else printed(result.status, start.text, name)
                if number and (why := reason(root, plan.spec, number)):
                    raise HostError(why)
                return result
            finally:
                undo.run()
    finally:
        remove_tree(bundle)
        if work_dir is None:
            os.rmdir(closed)
        os.close(source)
        if own:
            supervisor.close()


def _input(stdin: int | None) -> int:
    """A descriptor of our own for the step's input; of /dev/null where there is nothing to read from."""
    if stdin is not None:
        try:
            mode = fcntl.fcntl(stdin, fcntl.F_GETFL)
            if not mode & os.O_PATH and mode & os.O_ACCMODE != os.O_WRONLY:
                return os.dup(stdin)
        except OSError:
            pass  # it is not open
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _refuse(plan: RunPlan) -> None:
    """What can be planned and not yet be carried out, told before anything is changed."""
    if os.geteuid() != 0:
        raise HostError(
            "a RUN step needs root, if only of a user namespace: call run_step.enter_user_namespace() where the "
            "program starts, or run it as root"
        )
    from .pipeline import check_fields

    check_fields(plan.isolation, plan.spec, plan.network)  # whoever made the plan


def _network(plan: RunPlan) -> dict[str, Any]:
    """What connects the step, as the supervised child takes it; nothing where there is nothing to do."""
    network = plan.network
    if network.mode in ("host", "none", "path"):
        return {}
    return {
        "library": _library() if network.mode == "bridge" else "",
        "mode": network.mode,
        "configs": list(network.configs),
        "plugin_dirs": list(network.plugin_dirs),
        "own_dns": network.own_dns,
    }


def _library() -> str:
    """The directory that has pyroute2, which the supervisor, started without site-packages, would not find."""
    from importlib.util import find_spec

    spec = find_spec("pyroute2")
    if spec is None or spec.origin is None:
        raise HostError("network 'bridge' needs the Python package pyroute2, which is not installed")
    return os.path.dirname(os.path.dirname(spec.origin))


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

    The root filesystem is changed as a run would change it before the command. Raises HostError for a plan whose RUN
    instruction mounts what is handed over for one run alone, OSError.
    """
    from .isolation.oci import write_config

    inputs = Inputs()
    inputs.check(plan)
    rootfs = os.path.join(directory, "rootfs")
    with Root(rootfs) as root:
        plan = prepare(plan, root, directory, Undo(root, directory), inputs)
    write_config(directory, _real_spec(plan.spec, rootfs, directory))


class _Step:
    """One run of one plan: the job for the supervisor, the streams, the result."""

    def __init__(
        self,
        plan: RunPlan,
        rootfs: str,
        bundle: str,
        stdin: int,
        quiet: bool,
        runtime_timeout: float | None,
        inputs: Inputs,
    ) -> None:
        self.plan = plan
        self.inputs = inputs
        self.bundle = bundle
        self.stdin = stdin
        self.quiet = quiet
        self.terminal = bool(plan.spec["process"].get("terminal"))
        self.job = self._job(rootfs)
        self.job["runtime_timeout"] = runtime_timeout

    def _job(self, rootfs: str) -> dict[str, Any]:
        plan = self.plan
        spec = _real_spec(plan.spec, rootfs, self.bundle)
        name = f"buildfront-{plan.container_id[:12]}-{os.path.basename(self.bundle)[7:]}"
        parent = spec["linux"].get("cgroupsPath", "")
        if parent and plan.isolation != "chroot" and ":" not in parent:
            # What was asked for is a parent: two steps at once must not share one group.
            spec["linux"] = {**spec["linux"], "cgroupsPath": os.path.join(parent, name)}
        job: dict[str, Any] = {
            "isolation": plan.isolation,
            "spec": spec,
            "rootfs": rootfs,
            "bundle": self.bundle,
            "state": os.path.join(self.bundle, "runtime"),
            "runtime": plan.runtime or "runc",
            "runtime_flags": list(plan.runtime_flags),
            "no_pivot": plan.no_pivot,
            "container_id": name,
        }
        network = _network(plan)
        if network:
            job["network"] = network
        if self.terminal:
            size = spec["process"].get("consoleSize")
            ours = size_of((self.stdin, 1, 2, 0))
            job["terminal"] = [size["width"], size["height"]] if size else list(ours or (80, 24))
        # crun takes a filter as it is, too, and so gives the same answers as the others (see isolation/oci.py).
        takes_filter = plan.isolation == "chroot" or os.path.basename(job["runtime"]) == "crun"
        if takes_filter and "seccomp" in plan.spec["linux"]:
            from .linux.seccomp_filter import compile_filter

            try:
                job["seccomp"] = compile_filter(plan.spec["linux"]["seccomp"]).hex()
            except OSError as error:
                if plan.isolation == "chroot":
                    raise HostError(f"the seccomp filter can't be made: {error.strerror or error}") from None
                # No libseccomp of ours, or an action that needs the runtime: it makes the filter by itself.
        return job

    def run(
        self, supervisor: Supervisor, output: Output, cancel: threading.Event | None, timeout: float | None
    ) -> RunResult:
        began = time.monotonic()
        with ExitStack() as stack:
            relay = self._start(supervisor, output, stack)
            try:
                answer = relay.until_ended(cancel, timeout)
            except BaseException:
                # What is undone after this must not be undone below a step that still runs.
                kill(relay.run)
                await_end(relay.run)
                raise
        wall = int((time.monotonic() - began) * 1e6)
        if answer is None:
            from .isolation.cgroup import remove_noted

            remove_noted(self.bundle, own=self.job["container_id"])
            raise HostError("the step's supervisor ended before the step did; was it killed?")
        for name in ("error", "setup"):
            if name in answer:
                raise HostError(answer[name])
        known = RunResult.__dataclass_fields__.keys() & answer.keys() - {"warnings"}
        return RunResult(
            wall_us=wall,
            timed_out=relay.timed_out,
            memory_limit=self.plan.spec["linux"].get("resources", {}).get("memory", {}).get("limit", 0),
            warnings=tuple(answer.get("warnings", ())),
            **{name: answer[name] for name in known},
        )

    def _start(self, supervisor: Supervisor, output: Output, stack: ExitStack) -> Relay:
        """Open the streams and hand the step over; what is opened here is closed by ``stack``."""
        linux = self.plan.spec["linux"]
        root = host_id(linux, "uidMappings", 0), host_id(linux, "gidMappings", 0)
        theirs = []
        pipes = {}
        stdin = None
        console = None
        with ExitStack() as handed:
            if self.terminal or _is_null(self.stdin):
                theirs.append(self._null(os.O_RDONLY))
            else:
                reader, writer = self._pipe(root)
                theirs.append(reader)
                stdin = (self.stdin, writer)
            for number, name in ((1, "stdout"), (2, "stderr")):
                if number == 1 and self.quiet:
                    theirs.append(self._null(os.O_WRONLY))
                    continue
                reader, writer = self._pipe(root)
                pipes[reader] = name
                theirs.append(writer)
                stack.callback(os.close, reader)
            if self.terminal:
                console, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                stack.callback(console.close)
                theirs.append(other.detach())
            if self.inputs.locks:
                self.job["locks"] = len(self.inputs.locks)
                theirs += [os.dup(lock) for lock in self.inputs.locks]
            secrets, fd = pack(self.plan, self.inputs)
            if secrets:
                self.job["secrets"] = secrets
                theirs.append(fd)
            for fd in theirs:
                handed.callback(os.close, fd)
            try:
                run = supervisor.spawn(self.job, tuple(theirs))
            except BaseException:
                if stdin is not None:
                    os.close(stdin[1])
                raise
        stack.callback(run.close)
        return Relay(
            run,
            _without_stdout(output) if self.quiet else output,
            pipes=pipes,
            stdin=stdin,
            console=console,
            source=self.stdin,
            fixed_size="consoleSize" in self.plan.spec["process"],
        )

    def _null(self, flags: int) -> int:
        """/dev/null, as a node of the bundle where one can be made: a step may change the mode and the owner of its
        streams, and crun gives them to the step's user; the machine's own device must not be one of them."""
        path = os.path.join(self.bundle, "null")
        try:
            if not os.path.exists(path):
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
                os.chmod(path, 0o666)
            return os.open(path, flags | os.O_CLOEXEC)
        except (
            OSError
        ):  # no right to make it, and so none over the machine's; or a filesystem without devices
            return os.open(os.devnull, flags | os.O_CLOEXEC)

    def _pipe(self, owner: tuple[int, int]) -> tuple[int, int]:
        """A pipe that belongs to the step's root, who may open /dev/stdout then (row S74)."""
        reader, writer = os.pipe()
        if owner != (0, 0):
            os.fchown(writer, *owner)
        return reader, writer


def _without_stdout(output: Output) -> Output:
    def only_stderr(stream: str, data: bytes) -> None:
        if stream != "stdout":
            output(stream, data)

    return only_stderr


def _is_null(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
