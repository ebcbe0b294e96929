"""Access to paths for the root of a step's user namespace, if the builder's directories are closed to others.

It runs in the supervised child (see :mod:`run_step.supervisor`), in a mount namespace of its own that only
the runtime shares. There a closed directory is covered by one that may be searched, and its entries are bound
again at their places. The permissions on the disk are not changed. It makes no decisions.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from ..linux import mount as m


def open_way(spec: dict[str, Any], *needed: str) -> None:
    """Let the root of the step's user namespace search its way to ``needed``.

    They are the root filesystem and the sources of binds. Does nothing if it can already, or there is no such
    namespace. Raises OSError if nothing can be mounted.
    """
    root = _outside_root(spec["linux"])
    if root is None:
        return
    binds = [item["source"] for item in spec.get("mounts", ()) if item.get("source", "").startswith("/")]
    own = False
    for path in (*needed, spec["root"]["path"], *binds):
        # Sources in the bundle are links into the store.
        for way in {os.path.abspath(path), os.path.realpath(path)}:
            parts = way.split("/")
            for count in range(2, len(parts)):
                here = "/".join(parts[:count])
                if not os.path.isdir(here) or not _is_closed(here, root):
                    continue
                if not own:
                    m.unshare(m.CLONE_NEWNS)
                    m.mount("", "/", flags=m.MS_SLAVE | m.MS_REC)
                    own = True
                _cover(here)


def _outside_root(linux: dict[str, Any]) -> tuple[int, int] | None:
    """Return the IDs that the root of the step's new user namespace has for us.

    None if they are our own, or there is no such namespace.
    """
    if not any(item["type"] == "user" and not item.get("path") for item in linux["namespaces"]):
        return None
    found = []
    for key in ("uidMappings", "gidMappings"):
        rows = [(item["containerID"], item["hostID"], item["size"]) for item in linux.get(key, ())]
        found.append(
            next((outside - inside for inside, outside, size in rows if inside <= 0 < inside + size), 0)
        )
    return None if found[0] == os.geteuid() else (found[0], found[1])


def _is_closed(path: str, root: tuple[int, int]) -> bool:
    """Whether ``root`` may not search the directory."""
    status = os.stat(path)
    if status.st_uid == root[0]:
        return not status.st_mode & stat.S_IXUSR
    return not status.st_mode & (stat.S_IXGRP if status.st_gid == root[1] else stat.S_IXOTH)


def _cover(top: str) -> None:
    """Mount a filesystem over ``top`` that all may search, with the same entries."""
    held: dict[str, int] = {}
    try:
        for name in os.listdir(top):
            held[name] = os.open(os.path.join(top, name), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        m.mount("tmpfs", top, "tmpfs", m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC, "mode=711")
        for name, fd in held.items():
            path, mode = os.path.join(top, name), os.fstat(fd).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink("", dir_fd=fd), path)
                continue
            if stat.S_ISDIR(mode):
                os.mkdir(path, 0o700)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            m.mount(f"/proc/self/fd/{fd}", path, flags=m.MS_BIND | m.MS_REC)
    finally:
        for fd in held.values():
            os.close(fd)
