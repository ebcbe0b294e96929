"""The OCI runtimes that are known, and whether one works here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from typing import Any

from ..linux.children import died_of
from ..linux.device_numbers import DENY_ALL
from ..linux.id_maps import is_machine_root
from .runtime_errors import explain

RUNTIMES = ("crun", "runc", "youki")
"""The order in which they are tried when none is asked for (row S71)."""


def try_runtime(path: str, work_dir: str | None = None) -> str:
    """Create a container with ``path`` and delete it; return the empty string, or the runtime's error message."""
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
                pass  # told already
        message = (made.stderr or made.stdout).strip()
        # The empty root filesystem has no /x: getting as far as to miss it is what working means here.
        lowered = message.lower()
        if "/x" in lowered and ("no such file" in lowered or "not found" in lowered):
            return ""
        ended = f"ended with status {made.returncode}" if made.returncode >= 0 else died_of(-made.returncode)
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
