"""What is read back from the disk by somebody who did not write it: notes of a builder that was killed, state of the
machine's networks. They are data: whose they are is looked at first, and nothing in them is believed unseen.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

LARGEST = 4 << 20
"""Bytes of a note; what is larger is none of ours."""

PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where distributions put programs."""

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def is_own(status: os.stat_result) -> bool:
    """Whether it belongs to us, and nobody else may write it."""
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


def is_own_directory(path: str) -> bool:
    """Whether ``path`` is a directory of ours, no link, and nobody else can put another in its place."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return (
        stat.S_ISDIR(status.st_mode) and is_own(status) and _is_safe(os.path.dirname(os.path.abspath(path)))
    )


def read(directory: str, name: str, limit: int = LARGEST) -> bytes | None:
    """The content of a note: of a regular file of ours that nobody else may write, and that has no other name. None for
    anything else, and for one that is larger than ``limit``."""
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
    """Those of a note, without the ones that can be no path; none where there is no note."""
    text = (read(directory, name) or b"").decode("utf-8", "surrogateescape")
    return [line for line in text.split("\n") if line and "\0" not in line]


def known_program(path: str, names: Iterable[str], directories: Iterable[str] = ()) -> bool:
    """Whether ``path`` is a program of one of ``names`` that this machine knows by itself: in a usual place, in one of
    PATH, or in one of ``directories``; and nobody but its owner, who is root or we, can have put it there."""
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
    """Whether ``directory`` and all above it are root's or ours, and nobody else can rename or remove there."""
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
    """Root and us. In a user namespace the machine's root is nobody, as others are; whose a note is tells it there."""
    own = {0, os.geteuid()}
    from .rootless import is_machine_root

    if not is_machine_root():
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as stream:
            own.add(int(stream.read()))
    return own
