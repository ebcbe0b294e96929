"""Notes: files that another process reads back, of a builder that was killed or about the machine's networks.

They are data: their owner is checked first, and nothing in them is believed without a check.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from .linux.id_maps import is_machine_root

LARGEST = 4 << 20
"""The limit of a note in bytes; a larger file is not one of ours."""

PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""The directories of programs in distributions."""

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def is_own(status: os.stat_result) -> bool:
    """Whether it belongs to us, and no other user may write it."""
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


def is_own_directory(path: str) -> bool:
    """Whether ``path`` is a directory of ours, not a link, and no other user can replace it."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return (
        stat.S_ISDIR(status.st_mode) and is_own(status) and _is_safe(os.path.dirname(os.path.abspath(path)))
    )


def read(directory: str, name: str, limit: int = LARGEST) -> bytes | None:
    """Return the content of a note; None if it is not a note of ours, or larger than ``limit``.

    It must be a regular file of ours that no other user may write, with only one name.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with os.fdopen(os.open(os.path.join(directory, name), flags), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or not is_own(status):
                return None
            data = stream.read(limit + 1)
    except (OSError, ValueError):
        return None
    return data if len(data) <= limit else None


def lines(directory: str, name: str) -> list[str]:
    """Return the lines of a note, without those that can't be a path; none if there is no note."""
    text = (read(directory, name) or b"").decode("utf-8", "surrogateescape")
    return [line for line in text.split("\n") if line and "\0" not in line]


def known_program(path: str, names: Iterable[str], directories: Iterable[str] = ()) -> bool:
    """Whether ``path`` is a program with one of ``names`` in a trusted place.

    The places are the usual directories, those of PATH, and ``directories``. Only the owner, who must be root
    or we, may have been able to put it there.
    """
    directory, name = os.path.split(path)
    places = {*PLACES, *os.environ.get("PATH", "").split(":"), *directories}
    if name not in names or directory not in places or not os.path.isabs(path) or "\0" in path:
        return False
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)
    except OSError:
        return False
    regular = stat.S_ISREG(status.st_mode) and os.access(real, os.X_OK)
    safe = _is_safe(directory) and _is_safe(os.path.dirname(real))
    return regular and safe and status.st_uid in _trusted() and not status.st_mode & _OTHERS


def _is_safe(directory: str) -> bool:
    """Whether ``directory`` and all above it are root's or ours, and no other user can rename or remove entries."""
    try:
        here = os.path.realpath(directory, strict=True)
        while True:
            status = os.stat(here)
            others = status.st_mode & _OTHERS and not status.st_mode & stat.S_ISVTX
            if status.st_uid not in _trusted() or others:
                return False
            if here == "/":
                return True
            here = os.path.dirname(here)
    except OSError:
        return False


def _trusted() -> set[int]:
    """Return the IDs of root and ourselves.

    In a user namespace the machine's root has the overflow ID, as other users do. It is trusted there,
    because the owner of a note is checked in another way.
    """
    own = {0, os.geteuid()}
    if not is_machine_root():
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as stream:
            own.add(int(stream.read()))
    return own
