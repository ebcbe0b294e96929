"""What a step changed: two directory trees compared, as a list of entries in a fixed order.

Works on descriptors of directories and never follows a link, so nothing that a step left can lead outside.
Knows nothing of tar; :mod:`.layer` writes what comes from here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

OPAQUE = "trusted.overlay.opaque"
_SKIPPED = ("trusted.overlay.", "user.overlay.", "system.posix_acl", "security.selinux")


@dataclass(frozen=True)
class Entry:
    """One change. ``path`` has no leading slash. ``status`` None means that the path was removed."""

    path: str
    status: os.stat_result | None


def xattrs(file: str | int) -> dict[str, bytes]:
    """The extended attributes that belong to a file's content (capabilities, user attributes), by its path or by an
    open descriptor."""
    follow = isinstance(file, int)
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError:
        return {}
    wanted = sorted(name for name in names if not name.startswith(_SKIPPED))
    return {name: os.getxattr(file, name, follow_symlinks=follow) for name in wanted}


def at(fd: int, name: str) -> str:
    """A path by which calls that take no ``dir_fd`` reach an entry of an open directory."""
    return f"/proc/self/fd/{fd}/{name}"


class Comparison:
    """Compares a changed tree with the one it came from.

    ``complete`` false: the changed tree is an overlay's upper directory, holding only what was touched.
    ``complete`` true: it is a whole copy, and what it lacks was removed; files whose change time is before
    ``since_ns`` are taken as untouched. ``opaque`` is the attribute that the overlay marks opaque directories with.
    """

    def __init__(self, *, complete: bool, since_ns: int = 0, opaque: str = OPAQUE) -> None:
        self.complete = complete
        self.since_ns = since_ns
        self.opaque = opaque

    def walk(self, new: int, old: int | None, prefix: str = "", *, opaque: bool = False) -> Iterator[Entry]:
        """The changes below two open directories, names in order, a directory before what is in it.

        ``opaque``: a directory above hides what was there before, and so does everything in it.
        """
        opaque = opaque or self.complete or _is_opaque(new, self.opaque)
        names = sorted(os.listdir(new))
        gone = set(os.listdir(old)) - set(names) if old is not None and opaque else set()
        for name in sorted({*names, *gone}):
            if name in gone:
                yield Entry(prefix + name, None)
                continue
            status = os.stat(name, dir_fd=new, follow_symlinks=False)
            before = _lstat(name, old)
            path = prefix + name
            if not self.complete and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                if before is not None:
                    yield Entry(path, None)
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._directory(new, old, name, path, status, before, opaque)
            elif before is None or not self._same(new, old, name, status, before):
                yield Entry(path, status)

    def _directory(
        self,
        new: int,
        old: int | None,
        name: str,
        path: str,
        status: os.stat_result,
        before: os.stat_result | None,
        opaque: bool,
    ) -> Iterator[Entry]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        was_dir = before is not None and stat.S_ISDIR(before.st_mode)
        inner = os.open(name, flags, dir_fd=new)
        below = os.open(name, flags, dir_fd=old) if was_dir and old is not None else None
        try:
            told = not was_dir or not self._same(new, old, name, status, before)
            if told:
                yield Entry(path, status)
            for entry in self.walk(inner, below, path + "/", opaque=opaque):
                if not told:
                    # What holds a change is told too: a layer then carries the owner and mode of its directories.
                    told = True
                    yield Entry(path, status)
                yield entry
        finally:
            os.close(inner)
            if below is not None:
                os.close(below)

    def _same(
        self, new: int, old: int | None, name: str, status: os.stat_result, before: os.stat_result | None
    ) -> bool:
        assert before is not None and old is not None
        keys = ("st_mode", "st_uid", "st_gid", "st_mtime_ns")
        if any(getattr(status, key) != getattr(before, key) for key in keys):
            return False
        if self.complete and status.st_ctime_ns < self.since_ns:
            return True
        directory = stat.S_ISDIR(status.st_mode)
        if not directory and (status.st_nlink > 1 or status.st_size != before.st_size):
            return False
        if xattrs(at(new, name)) != xattrs(at(old, name)):
            return False
        if directory:
            return True
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(name, dir_fd=new) == os.readlink(name, dir_fd=old)
        if stat.S_ISREG(status.st_mode):
            return _same_content(new, old, name)
        return status.st_rdev == before.st_rdev


def _lstat(name: str, directory: int | None) -> os.stat_result | None:
    if directory is None:
        return None
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_opaque(directory: int, attribute: str) -> bool:
    try:
        return os.getxattr(directory, attribute) == b"y"
    except OSError:
        return False


def _same_content(new: int, old: int, name: str) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        os.fdopen(os.open(name, flags, dir_fd=new), "rb") as one,
        os.fdopen(os.open(name, flags, dir_fd=old), "rb") as two,
    ):
        while True:
            left, right = one.read(1 << 18), two.read(1 << 18)
            if left != right:
                return False
            if not left:
                return True
