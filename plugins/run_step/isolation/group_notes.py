"""The marks of our control groups, and the notes in a bundle by which the next start finds them.

Any process may have written a note, so only a group with our mark is killed or removed by it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress

from .. import notes

_NOTE = "cgroups"
_PARENT_NOTE = "cgroup-parent"
"""The names of a bundle's files that list the groups made for it, and their parent."""

_MARK = "trusted.buildfront"
"""The attribute of a group that we made. In a step's group its value is the group's name. In a parent, which
we may remove when it is empty, it is PARENT. A parent that another program made has no mark and stays,
because it may have limits of its own.
"""

PARENT = b"1"


def mark(path: str, value: bytes = b"") -> None:
    """Mark a group as made for a step, or with another ``value``. If the kernel refuses, it has no mark."""
    with suppress(OSError):
        os.setxattr(path, _MARK, value or os.fsencode(os.path.basename(path)))


def is_parent(path: str) -> bool:
    """Whether we made this group as a parent of others."""
    return _value(path) == PARENT


def is_marked(path: str, bundle: str) -> bool:
    """Whether this is the group of the step of ``bundle``, by its mark."""
    return is_of(path, bundle) and _value(path) == os.fsencode(os.path.basename(path))


def is_of(path: str, bundle: str) -> bool:
    """Whether this has the name of the group of the step of ``bundle``. A name proves nothing."""
    suffix = os.path.basename(bundle).removeprefix("bundle-")
    name = os.path.basename(path)
    return bool(suffix) and name.startswith("buildfront-") and name.endswith("-" + suffix)


def _value(path: str) -> bytes:
    try:
        return os.getxattr(path, _MARK, follow_symlinks=False)
    except OSError:
        return b""


def is_below(path: str, points: Collection[str]) -> bool:
    """Whether ``path`` is a directory in one of the hierarchies mounted at ``points``, with no link or ``..`` in it."""
    if not any(path.startswith(point.rstrip("/") + "/") for point in points):
        return False
    return os.path.realpath(path) == path and os.path.isdir(path)


def write(bundle: str, paths: list[str], parent: str) -> None:
    """Note groups and their parent in ``bundle``."""
    for name, text in ((_NOTE, "".join(path + "\n" for path in paths)), (_PARENT_NOTE, parent)):
        if text:
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(os.path.join(bundle, name), flags, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(text)


def read(bundle: str) -> tuple[list[str], str]:
    """Return the noted paths, and the noted parent or an empty text."""
    parent = notes.lines(bundle, _PARENT_NOTE)
    return notes.lines(bundle, _NOTE), parent[0] if len(parent) == 1 else ""


def kill_all(path: str) -> None:
    """Kill all processes in a group."""
    try:
        with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as stream:
            processes = stream.read().split()
    except OSError:
        return  # gone already
    for pid in processes:
        with suppress(OSError, ValueError):
            os.kill(int(pid), signal.SIGKILL)
