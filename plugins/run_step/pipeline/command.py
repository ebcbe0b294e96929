"""The path of the command (row S14): looked up on PATH in the root filesystem, with links resolved inside it."""

from __future__ import annotations

import posixpath
import stat

from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft

FALLBACK_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
"""The PATH of a step that has none at all."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Make the first argument absolute if it is found; else leave it as it is."""
    if not draft.env.get("PATH"):
        draft.env["PATH"] = FALLBACK_PATH
        draft.process["env"] = [f"{name}={value}" for name, value in draft.env.items()]
    args = draft.process["args"]
    if args[0].startswith("/") or (request.run_mounts and "/" not in args[0]):
        return  # the program may be in a mount; it is looked up when the plan is executed
    for element in draft.env["PATH"].split(":"):
        directory = element or draft.process["cwd"]
        candidate = posixpath.normpath(posixpath.join("/", directory, args[0]))
        status = draft.root.lstat(candidate)
        if status is None or stat.S_ISDIR(status.st_mode):
            continue
        if stat.S_ISLNK(status.st_mode) or status.st_mode & 0o111:
            args[0] = candidate
            return
