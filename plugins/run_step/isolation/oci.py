"""OCI runtimes: the search for one that works, and the create, start, wait, delete of one container.

It runs in the supervised child (see :mod:`run_step.supervisor`), which is the subreaper of the container's
init. ``--root`` is a directory of the run, so that the leftovers of a killed build are found there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
from typing import Any

from ..host import RuntimeFact
from ..linux import mount
from ..linux.device_numbers import DENY_ALL
from ..linux.pty import set_size
from ..network import Network, connect
from ..rootless import is_machine_root
from . import waiting
from .cgroup import Group, named, remove
from .reach import open_way
from .runtime_errors import explain, plain

CONSOLE = "console.sock"
"""The socket in the bundle through which a runtime sends a terminal."""

RUNTIME_NOTE = "runtime.path"
"""The file of a bundle that holds the path of the runtime that made its container."""

SECONDS = 120.0
"""The limit for create or start, in seconds. It includes hooks, which may download something."""

_LOG = 1 << 20
"""The limit for reading a runtime's log, in bytes from its end."""

RUNTIMES = ("crun", "runc", "youki")
"""The runtimes that are tried in this order when none is asked for (row S71)."""


def find(name: str) -> str | None:
    """Return the path of an executable on PATH or in the usual directories of runtimes; None if there is none."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    places = [*os.environ.get("PATH", "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"]
    for place in places:
        path = os.path.join(place or ".", name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def probe_runtimes(*, every: bool = False, work_dir: str | None = None) -> tuple[RuntimeFact, ...]:
    """Try each runtime on this machine with a container that ends at once; return the results.

    The search ends with the first that works, unless ``every`` one is wanted. ``work_dir`` is the directory
    in which the bundle for that is made.
    """
    found = []
    for name in RUNTIMES:
        path = find(name)
        if path is not None:
            why = try_runtime(path, work_dir)
            found.append(RuntimeFact(name, path, why == "", why))
            if not why and not every:
                break
    return tuple(found)


def try_runtime(path: str, work_dir: str | None = None) -> str:
    """Create a container with ``path`` and delete it; return the empty string, or the runtime's error message."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="buildfront-probe-", dir=work_dir) as bundle:
        os.mkdir(os.path.join(bundle, "rootfs"))
        for name in ("proc", "dev", "sys"):
            os.mkdir(os.path.join(bundle, "rootfs", name))
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": ["/x"],
                "cwd": "/",
                "env": [],
            },
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]},
        }
        _as_rootless(spec["linux"])
        _with_device_rules(spec["linux"])
        with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as stream:
            json.dump(spec, stream)
        name = "probe-" + os.path.basename(bundle)
        base = [path, "--root", os.path.join(bundle, "state")]
        try:
            made = subprocess.run(
                [*base, "run", "--bundle", bundle, name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        finally:
            try:
                subprocess.run(
                    [*base, "delete", "--force", name], capture_output=True, timeout=20, check=False
                )
            except (OSError, subprocess.TimeoutExpired):
                pass  # reported already
        message = (made.stderr or made.stdout).strip()
        # The empty root filesystem has no /x: a runtime that works gets as far as this error.
        lowered = message.lower()
        if "/x" in lowered and ("no such file" in lowered or "not found" in lowered):
            return ""
        ended = (
            f"ended with status {made.returncode}"
            if made.returncode >= 0
            else waiting.died_of(-made.returncode)
        )
        last = message.splitlines()[-1] if message else ended
        logged = re.search(r'msg="((?:[^"\\]|\\.)*)"', last)  # logrus's text form
        return explain(re.sub(r"\\(.)", r"\1", logged[1]) if logged else last, {})


def _as_rootless(linux: Any) -> None:
    """Give the spec a user namespace: without root of the machine, runtimes need one (runc: "rootless")."""
    for kind, key in (("uid", "uidMappings"), ("gid", "gidMappings")):
        with open(f"/proc/self/{kind}_map", encoding="ascii") as stream:
            rows = [[int(number) for number in line.split()] for line in stream]
        if is_machine_root():
            return
        linux[key] = [{"containerID": row[0], "hostID": row[0], "size": row[2]} for row in rows]
    linux["namespaces"].append({"type": "user"})


def _with_device_rules(linux: Any) -> None:
    """Give the spec device rules: a runtime that can't keep root's steps from the host's devices does not work."""
    if is_machine_root():
        linux["resources"] = {"devices": [DENY_ALL]}


class Container:
    """One container of one runtime.

    The methods raise RuntimeError with the runtime's error message, and :class:`.waiting.Cancelled` when the
    builder asks for the end meanwhile. ``seconds`` is the limit for one call of the runtime.
    """

    def __init__(self, run_socket: socket.socket, job: dict[str, Any], runtime: str) -> None:
        self.base = [runtime, "--root", job["state"], *job["runtime_flags"]]
        self.bundle: str = job["bundle"]
        self.config: str = job.get("config", self.bundle)
        self.name: str = job["container_id"]
        self.runtime = runtime
        self.hooks: dict[str, Any] = job["spec"].get("hooks", {})
        self.seconds: float = job.get("runtime_timeout") or SECONDS
        self._socket = run_socket

    def _call(self, *args: str, fds: tuple[int, ...] = ()) -> None:
        log = os.path.join(self.bundle, "runtime.log")
        label = f"{os.path.basename(self.runtime)} {args[0]}"
        if os.path.exists(log + ".json"):
            os.unlink(log + ".json")  # the log of an earlier call
        with open(log, "wb") as stream:
            stdin, stdout, stderr = fds[:3] or (subprocess.DEVNULL, stream.fileno(), stream.fileno())
            try:
                process = subprocess.Popen(
                    [*self._logging(log), *args],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=self.bundle,
                )
            except OSError as error:
                raise RuntimeError(f"{label} can't be run: {error.strerror}") from None
        what = waiting.until_ended(self._socket, process.pid, self.seconds)
        if what != "ended":
            waiting.kill(process.pid)
        status = process.wait()
        if what == "cancelled":
            raise waiting.Cancelled
        if what == "timeout":
            raise RuntimeError(f"{label} did not end within {self.seconds:g} s, and was killed")
        if status != 0:
            how = "" if status > 0 else f" ({waiting.died_of(-status)})"
            raise RuntimeError(f"{label} failed{how}: {explain(self._words(log), self.hooks)}")

    def _logging(self, log: str) -> list[str]:
        """Return the runtime with its options, which logs to ``log`` with .json after it."""
        return [*self.base[:1], "--log", log + ".json", "--log-format", "json", *self.base[1:]]

    def _words(self, log: str) -> str:
        lines: list[tuple[str, str]] = []
        for path in (log + ".json", log):
            if os.path.exists(path):
                with open(path, "rb") as stream:
                    stream.seek(max(0, os.path.getsize(path) - _LOG))
                    for raw in stream:
                        line = raw.decode("utf-8", "replace")
                        try:
                            value = json.loads(line)
                            lines.append((str(value.get("level", "")), str(value.get("msg", ""))))
                        except (ValueError, AttributeError, RecursionError):
                            lines.append(("", line.strip()))
        return plain(lines)[-4000:] or "it logged nothing; what it printed is in the output"

    def create(self, fds: tuple[int, ...], no_pivot: bool, terminal: bool) -> int:
        """Create the container; return the process ID of its init, which becomes a child of ours."""
        extra = ["--no-pivot"] if no_pivot else []
        extra += ["--console-socket", CONSOLE] if terminal else []
        self._call(
            "create",
            "--bundle",
            self.config,
            "--pid-file",
            os.path.join(self.bundle, "pid"),
            *extra,
            self.name,
            fds=fds,
        )
        try:
            with open(os.path.join(self.bundle, "pid"), encoding="ascii") as stream:
                text = stream.read(64)
            pid = int(text)
            with open(f"/proc/{pid}/stat", "rb") as stat:
                parent = int(stat.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError) as error:
            raise RuntimeError(f"{self.runtime} create wrote no usable pid file: {error}") from None
        if parent != os.getpid():
            raise RuntimeError(
                f"{self.runtime} create wrote the process {pid}, which it did not make, to its pid file"
            )
        return pid

    def start(self) -> None:
        """Make the init run the command."""
        self._call("start", self.name)

    def delete(self) -> str:
        """Remove the container and kill the processes left in it. Never raises: it is the last thing done.

        Returns the runtime's messages. They matter only if hooks of the stage poststop were run.
        """
        log = os.path.join(self.bundle, "delete.log")
        try:
            done = subprocess.run(
                [*self._logging(log), "delete", "--force", self.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.bundle,
                check=False,
                timeout=min(self.seconds, 30),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            # The runtime has vanished or hangs; its processes are killed and its groups removed without it.
            return str(error)
        said = os.path.exists(log + ".json") and os.path.getsize(log + ".json") > 0
        return explain(self._words(log), self.hooks, ("poststop",)) if done.returncode or said else ""


def run(run_socket: socket.socket, job: dict[str, Any], streams: tuple[int, ...]) -> dict[str, Any]:
    """Run one step. ``streams`` are stdin, stdout, stderr and, for a terminal, the socket to send it through."""
    waiting.become_subreaper()
    path = find(job["runtime"])
    if path is None:
        return {"error": f"the OCI runtime {job['runtime']!r} was not found on PATH"}
    try:
        open_way(job["spec"], job["bundle"])
    except OSError as error:
        return {"error": f"the step's user namespace can't reach its root filesystem: {error.strerror}"}
    os.chdir(job["bundle"])
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(
        os.open(RUNTIME_NOTE, flags, 0o600), "w", encoding="utf-8", errors="surrogateescape"
    ) as stream:
        stream.write(path)  # for recover(): another runtime would not know the container
    if os.path.basename(path) == "crun":
        _receive(job["spec"])
        _give_filter(job)
    write_config(job.get("config", job["bundle"]), job["spec"])
    container = Container(run_socket, job, path)
    group = Group({})
    network: Network | None = None
    reserved = Group.reserve(
        job["container_id"], os.path.dirname(job["spec"]["linux"].get("cgroupsPath", ""))
    )
    guessed = named(job["container_id"])
    reserved.note(job["bundle"], guessed)
    listener = _listen() if job.get("terminal") else None
    answer: dict[str, Any] = {}
    try:
        pid = container.create(streams, job["no_pivot"], listener is not None)
        group = Group.of(pid)
        group.mark()
        if listener is not None:
            _forward(listener, streams[3], job["terminal"])
        for fd in streams:
            os.close(fd)
        network = connect(job, pid, run_socket)
        container.start()
        answer = waiting.wait(run_socket, pid, network)
        waiting.add_usage(answer, group.usage())
        return answer
    except waiting.Cancelled:
        return waiting.stopped()
    finally:
        if network is not None:
            network.close()
            if network.warnings:
                answer.setdefault("warnings", []).extend(network.warnings)
        why = container.delete()
        if why and "poststop" in container.hooks:
            answer.setdefault("warnings", []).append(
                f"after the step, a hook of the stage poststop failed: {why}"
            )
        waiting.end_descendants()
        group.remove_of(job["container_id"])
        reserved.remove()
        for path in guessed:
            remove(path)  # made by a runtime that failed before it said where its group is


def _listen() -> socket.socket:
    """Return the console socket, named relative to the bundle: a socket's path is limited to 107 bytes (unix(7))."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)  # no other user can connect to it, not for a moment
    listener.bind(CONSOLE)
    os.umask(old)
    listener.listen(1)
    listener.settimeout(5)
    return listener


def _forward(listener: socket.socket, target: int, size: list[int]) -> None:
    """Pass on the terminal that ``create`` sent before it ended, in the size wanted."""
    try:
        sender, _ = listener.accept()
        with sender:
            _, fds, _, _ = socket.recv_fds(sender, 4096, 1)
    except OSError as error:
        raise RuntimeError(f"the runtime sent no terminal: {error}") from None
    finally:
        listener.close()
    if not fds:
        raise RuntimeError("the runtime sent no terminal")
    set_size(fds[0], *size)
    with socket.socket(fileno=os.dup(target)) as receiver:
        socket.send_fds(receiver, [b"t"], fds[:1])
    for fd in fds:
        os.close(fd)


def _receive(spec: dict[str, Any]) -> None:
    """Let volumes that ask for it show later mounts of the host (row S64).

    crun makes all mounts private unless the spec says otherwise, and the spec's setting is about one mount
    only. So this process sets the propagation of all others.
    """
    asked = ("slave", "rslave", "shared", "rshared")
    if any(option in asked for item in spec["mounts"] for option in item.get("options", ())):
        mount.unshare(mount.CLONE_NEWNS)
        mount.mount("", "/", flags=mount.MS_SLAVE | mount.MS_REC)
        spec["linux"]["rootfsPropagation"] = "slave"


def _give_filter(job: dict[str, Any]) -> None:
    """Give crun our own seccomp filter (crun(1), run.oci.seccomp_bpf_data).

    The filter of crun answers EPERM to a call that the profile or its libseccomp does not know; those of runc
    and ours answer ENOSYS. A crun that does not know the annotation makes its own filter from the profile,
    which stays in the spec.
    """
    if job.get("seccomp"):
        data = base64.b64encode(bytes.fromhex(job["seccomp"])).decode()
        job["spec"].setdefault("annotations", {})["run.oci.seccomp_bpf_data"] = data


def write_config(bundle: str, spec: dict[str, Any]) -> None:
    """Write config.json with mode 0600, atomically (row S70)."""
    temporary = os.path.join(bundle, "config.json.new")
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        json.dump(spec, stream)
    os.rename(temporary, os.path.join(bundle, "config.json"))
