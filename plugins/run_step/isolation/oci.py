"""OCI runtimes: finding one that works, and the create, start, wait, delete of one container.

Runs in the supervised child (see :mod:`run_step.supervisor`), which is the subreaper of the container's
init. ``--root`` points into the run's own directory: what a killed build leaves is found there.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from ..host import RuntimeFact

RUNTIMES = ("crun", "runc", "youki")
"""Tried in this order when none is asked for (row S71)."""


def find(name: str) -> str | None:
    """The path of an executable on PATH or in the directories where distributions put runtimes."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    places = [*os.environ.get("PATH", "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"]
    for place in places:
        path = os.path.join(place or ".", name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def probe_runtimes() -> tuple[RuntimeFact, ...]:
    """Each runtime on this machine, tried once with a container that ends at once."""
    found = []
    for name in RUNTIMES:
        path = find(name)
        if path is not None:
            why = try_runtime(path)
            found.append(RuntimeFact(name, path, why == "", why))
            if not why:
                break  # the first that works is the one taken: the others need no try
    return tuple(found)


def try_runtime(path: str) -> str:
    """Create a container with ``path`` and delete it; the empty string, or what went wrong in its words."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="buildfront-probe-") as bundle:
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
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        finally:
            subprocess.run([*base, "delete", "--force", name], capture_output=True, timeout=20, check=False)
        message = (made.stderr or made.stdout).strip()
        # The empty root filesystem has no /x: getting as far as to miss it is what working means here.
        lowered = message.lower()
        if "/x" in lowered and ("no such file" in lowered or "not found" in lowered):
            return ""
        return message.splitlines()[-1] if message else f"ended with status {made.returncode}"


class Container:
    """One container of one runtime. The calls raise RuntimeError with the runtime's own words."""

    def __init__(self, runtime: str, flags: list[str], state: str, bundle: str, name: str) -> None:
        self.base = [runtime, "--root", state, *flags]
        self.bundle = bundle
        self.name = name
        self.runtime = runtime

    def _call(self, *args: str, fds: tuple[int, int, int] | None = None) -> None:
        log = os.path.join(self.bundle, "runtime.log")
        with open(log, "wb") as stream:
            stdin, stdout, stderr = fds or (subprocess.DEVNULL, stream.fileno(), stream.fileno())
            done = subprocess.run(
                [*self.base[:1], "--log", log + ".json", "--log-format", "json", *self.base[1:], *args],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=self.bundle,
                check=False,
            )
        if done.returncode != 0:
            raise RuntimeError(f"{os.path.basename(self.runtime)} {args[0]} failed: {self._words(log)}")

    def _words(self, log: str) -> str:
        words = []
        for path in (log + ".json", log):
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as stream:
                    for line in stream:
                        try:
                            words.append(str(json.loads(line).get("msg", "")))
                        except (ValueError, AttributeError):
                            words.append(line.strip())
        return "; ".join(word for word in words if word) or "it printed nothing"

    def create(self, fds: tuple[int, int, int], no_pivot: bool) -> int:
        """Create, and return the process ID of the container's init."""
        pid_file = os.path.join(self.bundle, "pid")
        extra = ["--no-pivot"] if no_pivot else []
        self._call("create", "--bundle", self.bundle, "--pid-file", pid_file, *extra, self.name, fds=fds)
        try:
            with open(pid_file, encoding="ascii") as stream:
                return int(stream.read())
        except (OSError, ValueError) as error:
            raise RuntimeError(f"{self.runtime} wrote no usable pid file: {error}") from None

    def start(self) -> None:
        """Let the init run the command."""
        self._call("start", self.name)

    def delete(self) -> None:
        """Remove the container, killing what is left of it. Never raises: it is the last thing done."""
        subprocess.run(
            [*self.base, "delete", "--force", self.name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.bundle,
            check=False,
        )


def write_config(bundle: str, spec: dict[str, Any]) -> None:
    """config.json, mode 0600, complete or not there at all (row S70)."""
    temporary = os.path.join(bundle, "config.json.new")
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        json.dump(spec, stream)
    os.rename(temporary, os.path.join(bundle, "config.json"))
