"""Execute a plan: the actions on the root filesystem, the isolation, and the clean-up afterwards."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
import threading
import time
from contextlib import ExitStack
from typing import Any

from .actions import Undo, prepare
from .chroot_fields import check_fields
from .contract import Output
from .errors import HostError
from .inputs import Inputs
from .isolation.bundle_files import write_config
from .isolation.cgroup import remove_noted
from .linux.seccomp_filter import compile_filter
from .planning import BUNDLE, ROOTFS, RunPlan, host_id
from .programs import Start, explain, printed, reason, said
from .rootfs import open_rootfs
from .run_protocol import Job, NetworkJob
from .run_result import RunResult
from .secret_packing import pack
from .stdio.own_streams import OwnStreams, Patience
from .stdio.own_terminal import size_of
from .stdio.relay import Relay, await_end, kill
from .supervisor_client import Supervisor
from .trees import remove_tree


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

    ``output`` receives ``("stdout"|"stderr", bytes)`` as they arrive, and the output of a terminal as stdout;
    without it both go to ours, and what ours do not take within seconds is dropped once the step has to end.
    ``quiet`` drops stdout. ``stdin`` is a descriptor whose content the step may read, up to its end; without it
    the step's input is empty. If the plan gives the step a terminal and ``stdin`` is one, it is made raw
    meanwhile, and its changes of size are passed on. The private bundle is made in ``work_dir``. ``cancel`` and
    ``timeout`` (seconds) kill the step. ``runtime_timeout`` is the limit for one call of an OCI runtime, in
    seconds. ``inputs`` has the files for the mounts of the RUN instruction. Secrets are only in memory; those
    that are variables are in the step's environment.

    Guarantees, in every outcome: no process of the step, no mount and no bundle remains; mount points made
    for the step are removed from ``rootfs`` unless the step put something in them; and the terminal is
    restored.

    Raises RequestError where ``rootfs`` is not a directory, HostError when the step could not be started. A command
    that fails is a result, not an error.
    """
    _refuse(plan)
    inputs = inputs or Inputs()
    inputs.check(plan)
    own = supervisor is None
    supervisor = supervisor or Supervisor()
    own_streams = OwnStreams(Patience(lambda: False))
    # Before anything is opened, which could get the number of a closed descriptor.
    source = _input(stdin)
    # Files that are copied into the bundle may have the set-user-ID bit, so no other user can reach the
    # directory.
    closed = work_dir or tempfile.mkdtemp(prefix="buildfront-")
    bundle = tempfile.mkdtemp(prefix="bundle-", dir=closed)
    try:
        rootfs = _absolute(rootfs)
        with open_rootfs(rootfs) as root:
            undo = Undo(root, bundle)
            try:
                plan = prepare(plan, root, bundle, undo, inputs)
                step = _Step(plan, rootfs, bundle, source, quiet, runtime_timeout, inputs)
                start = Start(output or own_streams)
                name = plan.spec["process"]["args"][0]
                try:
                    result = step.run(supervisor, start, cancel, timeout, own_streams)
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


def _absolute(path: str) -> str:
    """Return the path from the root directory; links and ``..`` stay. An empty path stays empty."""
    return os.path.join(os.getcwd(), path) if path else path


def _input(stdin: int | None) -> int:
    """Return a descriptor of our own for the step's input; /dev/null if there is no input."""
    if stdin is not None:
        try:
            mode = fcntl.fcntl(stdin, fcntl.F_GETFL)
            if not mode & os.O_PATH and mode & os.O_ACCMODE != os.O_WRONLY:
                return os.dup(stdin)
        except OSError:
            pass  # the descriptor is closed
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _refuse(plan: RunPlan) -> None:
    """Raise HostError for a plan that can't be executed, before anything is changed."""
    if os.geteuid() != 0:
        raise HostError(
            "a RUN step needs root, if only of a user namespace: call run_step.enter_user_namespace() where the "
            "program starts, or run it as root"
        )
    check_fields(plan.isolation, plan.spec, plan.network)  # whoever made the plan


def _network(plan: RunPlan) -> NetworkJob | None:
    """Return the network's part of the job for the supervised child; None if there is nothing to do."""
    network = plan.network
    if network.mode in ("host", "none", "path"):
        return None
    return {
        "library": _library() if network.mode == "bridge" else "",
        "mode": network.mode,
        "configs": list(network.configs),
        "plugin_dirs": list(network.plugin_dirs),
        "own_dns": network.own_dns,
    }


def _library() -> str:
    """Return the directory of pyroute2, which the supervisor, started without site-packages, would not find."""
    from importlib.util import find_spec

    spec = find_spec("pyroute2")
    if spec is None or spec.origin is None:
        raise HostError("network 'bridge' needs the Python package pyroute2, which is not installed")
    return os.path.dirname(os.path.dirname(spec.origin))


_OVERLAY = ("upperdir=", "workdir=")
"""The mount options that may have a token after their name; a user's value there is an absolute path."""


def materialise(value: Any, rootfs: str, bundle: str) -> Any:
    """Return the plan's JSON values with real paths for the placeholders."""
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
    """Return the spec with real paths, except in the process.

    A placeholder in the user's command or environment is ordinary text.
    """
    return {
        key: value if key == "process" else materialise(value, rootfs, bundle) for key, value in spec.items()
    }


def write_bundle(plan: RunPlan, directory: str) -> None:
    """Complete ``directory``, which has a ``rootfs``, to a bundle that ``runc run`` executes with the same result.

    The root filesystem is changed as a run would change it before the command. Raises HostError for a plan
    whose RUN instruction mounts files that are only passed for one run, and OSError.
    """
    inputs = Inputs()
    inputs.check(plan)
    directory = _absolute(directory)
    rootfs = os.path.join(directory, "rootfs")
    with open_rootfs(rootfs) as root:
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
        self.job = self._job(rootfs, runtime_timeout)

    def _job(self, rootfs: str, runtime_timeout: float | None) -> Job:
        plan = self.plan
        spec = _real_spec(plan.spec, rootfs, self.bundle)
        name = f"buildfront-{plan.container_id[:12]}-{os.path.basename(self.bundle)[7:]}"
        parent = spec["linux"].get("cgroupsPath", "")
        if parent and plan.isolation != "chroot" and ":" not in parent:
            # The option names a parent group: two concurrent steps must not share one group.
            spec["linux"] = {**spec["linux"], "cgroupsPath": os.path.join(parent, name)}
        job: Job = {
            "isolation": plan.isolation,
            "spec": spec,
            "rootfs": rootfs,
            "bundle": self.bundle,
            "state": os.path.join(self.bundle, "runtime"),
            "runtime": plan.runtime or "runc",
            "runtime_flags": list(plan.runtime_flags),
            "no_pivot": plan.no_pivot,
            "container_id": name,
            "runtime_timeout": runtime_timeout,
        }
        network = _network(plan)
        if network is not None:
            job["network"] = network
        if self.terminal:
            size = spec["process"].get("consoleSize")
            ours = size_of((self.stdin, 1, 2, 0))
            job["terminal"] = [size["width"], size["height"]] if size else list(ours or (80, 24))
        # crun accepts a compiled filter, too, and then gives the same answers as the others (see
        # isolation/oci.py).
        takes_filter = plan.isolation == "chroot" or os.path.basename(job["runtime"]) == "crun"
        if takes_filter and "seccomp" in plan.spec["linux"]:
            try:
                job["seccomp"] = compile_filter(plan.spec["linux"]["seccomp"]).hex()
            except OSError as error:
                if plan.isolation == "chroot":
                    raise HostError(f"the seccomp filter can't be made: {error.strerror or error}") from None
                # libseccomp is missing here, or an action needs the runtime, which makes the filter by itself
                # then.
        return job

    def run(
        self,
        supervisor: Supervisor,
        output: Output,
        cancel: threading.Event | None,
        timeout: float | None,
        own_streams: OwnStreams,
    ) -> RunResult:
        began = time.monotonic()
        with ExitStack() as stack:
            relay = self._start(supervisor, output, stack)
            own_streams.patience.ended = relay.must_end
            try:
                answer = relay.until_ended(cancel, timeout)
            except BaseException:
                # The caller undoes things afterwards, which must not happen while a step still runs.
                kill(relay.run)
                await_end(relay.run)
                raise
        wall = int((time.monotonic() - began) * 1e6)
        if answer is None:
            remove_noted(self.bundle, own=self.job["container_id"])
            raise HostError("the step's supervisor ended before the step did; was it killed?")
        for name in ("error", "setup"):
            if name in answer:
                raise HostError(answer[name])
        timed_out = relay.timed_out
        if own_streams.dropped:  # a part of the output is lost, even if the command had ended just before
            answer["cancelled"] = True
            timed_out = timed_out or not (cancel is not None and cancel.is_set())
        known = RunResult.__dataclass_fields__.keys() & answer.keys() - {"warnings"}
        return RunResult(
            wall_us=wall,
            timed_out=timed_out,
            memory_limit=self.plan.spec["linux"].get("resources", {}).get("memory", {}).get("limit", 0),
            warnings=tuple(answer.get("warnings", ())),
            **{name: answer[name] for name in known},
        )

    def _start(self, supervisor: Supervisor, output: Output, stack: ExitStack) -> Relay:
        """Open the streams and hand the step over; ``stack`` closes what is opened here."""
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
            if secrets is not None:
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
        """Return /dev/null, as a node of the bundle if one can be made.

        A step may change the mode and the owner of its streams, and crun gives them to the step's user; the
        machine's own device must not be one of them.
        """
        path = os.path.join(self.bundle, "null")
        try:
            if not os.path.exists(path):
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
                os.chmod(path, 0o666)
            return os.open(path, flags | os.O_CLOEXEC)
        except (
            OSError
        ):  # no right to make it, and so none to change the machine's; or a filesystem without devices
            return os.open(os.devnull, flags | os.O_CLOEXEC)

    def _pipe(self, owner: tuple[int, int]) -> tuple[int, int]:
        """Return a pipe that belongs to the step's root, which may open /dev/stdout then (row S74)."""
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
