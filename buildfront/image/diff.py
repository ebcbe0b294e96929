"""The changes of a step: two directory trees compared, as a list of entries in a fixed order.

Works on descriptors of directories and never follows a link, so nothing that a step left can lead outside.
Knows nothing of tar; :mod:`.layer` writes what comes from here.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from .trees import DIRECTORY

OPAQUE = "trusted.overlay.opaque"
_SKIPPED = ("trusted.overlay.", "user.overlay.", "system.posix_acl", "security.selinux")


class Entry(NamedTuple):
    """A change.

    ``path`` has no leading slash. ``status`` None means that the path was removed, :data:`LATER` that the status
    has to be read.
    """

    path: str
    status: os.stat_result | None


class EntryLog:
    """Entries kept for a second reading.

    Only their paths are kept, in memory while they are few, else in a file without a name in the directory ``place``.
    """

    def __init__(self, place: str) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(1 << 20, dir=place)
        self.count = 0

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        mark = b"-" if entry.status is None else b"+"
        self._file.write(mark + entry.path.encode("utf-8", "surrogateescape") + b"\0")
        self.count += 1

    def __iter__(self) -> Iterator[Entry]:
        self._file.seek(0)
        rest = b""
        while data := self._file.read(1 << 18):
            *whole, rest = (rest + data).split(b"\0")
            for raw in whole:
                path = raw[1:].decode("utf-8", "surrogateescape")
                yield Entry(path, None if raw.startswith(b"-") else LATER)

    def close(self) -> None:
        """Drop the entries."""
        self._file.close()


LATER = os.stat_result((0,) * 10)
"""Stands for a status that was not kept."""
_OPEN = 64
"""Directories of each tree that are open at once; those above are reached again by ".."."""
_MANY = 100_000
"""Names in a directory above which no second set of them is kept."""


@dataclass(slots=True)
class _Level:
    """A directory on the way down.

    It has its descriptors (-1 while it is far above), the names that are still to come, and the entry to be written if
    something below it has changed.
    """

    new: int
    old: int | None
    prefix: str
    opaque: bool
    names: Iterator[str]
    entry: Entry | None

    def close(self) -> None:
        for fd in (self.new, self.old):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.new = self.old = -1


def xattrs(file: str | int) -> dict[str, bytes]:
    """Return the extended attributes that belong to a file's content (capabilities, user attributes).

    The file is a path or an open descriptor.
    """
    follow = isinstance(file, int)
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError:
        return {}
    wanted = sorted(name for name in names if not name.startswith(_SKIPPED))
    return {name: os.getxattr(file, name, follow_symlinks=follow) for name in wanted}


ACL = "system.posix_acl_access"
"""The access control list of a file (acl(5)), which images of docker and BuildKit do not have either."""


def has_acl(path: str) -> bool:
    """Whether a file has an access control list; links are not followed."""
    try:
        return ACL in os.listxattr(path, follow_symlinks=False)
    except OSError:
        return False


def at(fd: int, name: str) -> str:
    """Return a path of an entry of an open directory, for calls that take no ``dir_fd``."""
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
        """Yield the changes below two open directories, names in order, a directory before its entries.

        ``opaque``: a directory above hides what was there before, and so does everything in it. However deep the
        trees are, neither the stack nor descriptors run out. What changed of the top itself, but for its times, is an
        entry with an empty path.
        """
        if old is not None and not prefix and _differ(new, old):
            yield Entry("", os.fstat(new))
        levels = [self._level(new, old, prefix, opaque, None)]
        told = 1  # so many levels from the top, whose own directories have been told
        try:
            while levels:
                level = levels[-1]
                name = next(level.names, None)
                if name is None:
                    _leave(levels)
                    told = min(told, len(levels))
                    continue
                found, changed = self._compare(levels, level, name)
                if not changed:
                    continue
                # A directory that holds a change is an entry too: so a layer has the owner and mode of its directories.
                for above in levels[told:]:
                    if above.entry is not None:
                        yield above.entry
                told = len(levels)
                if found is not None:
                    yield found
        finally:
            for level in levels[1:]:
                level.close()

    def _compare(self, levels: list[_Level], level: _Level, name: str) -> tuple[Entry | None, bool]:
        """Return the entry of a name, and whether it has changed. A directory to be entered becomes a level."""
        path = level.prefix + name
        status, before = _lstat(name, level.new), _lstat(name, level.old)
        if status is None:
            return Entry(path, None), True
        if not self.complete and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return Entry(path, None), before is not None
        same = before is not None and self._same(level.new, level.old, name, status, before)
        if not stat.S_ISDIR(status.st_mode):
            return Entry(path, status), not same
        inner = os.open(name, DIRECTORY, dir_fd=level.new)
        below = None
        try:
            if before is not None and stat.S_ISDIR(before.st_mode) and level.old is not None:
                below = os.open(name, DIRECTORY, dir_fd=level.old)
            levels.append(self._level(inner, below, path + "/", level.opaque, Entry(path, status)))
        except BaseException:
            for fd in (inner, below):
                if fd is not None:
                    os.close(fd)
            raise
        _close_far(levels)
        return None, not same

    def _level(self, new: int, old: int | None, prefix: str, opaque: bool, entry: Entry | None) -> _Level:
        opaque = opaque or self.complete or _is_opaque(new, self.opaque)
        names = os.listdir(new)
        if old is not None and opaque:
            if len(names) < _MANY:
                known = set(names)
                names += [name for name in os.listdir(old) if name not in known]
            else:
                with os.scandir(old) as entries:
                    names += [item.name for item in entries if _lstat(item.name, new) is None]
        names.sort()
        return _Level(new, old, prefix, opaque, iter(names), entry)

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


def _differ(new: int, old: int) -> bool:
    """Whether two directories have different modes, owners or attributes."""
    status, before = os.fstat(new), os.fstat(old)
    if any(getattr(status, key) != getattr(before, key) for key in ("st_mode", "st_uid", "st_gid")):
        return True
    return xattrs(at(new, ".")) != xattrs(at(old, "."))


def _leave(levels: list[_Level]) -> None:
    """Go up one level, and open its descriptors again if they were closed."""
    level = levels.pop()
    if not levels:
        return
    try:
        above = levels[-1]
        if above.new < 0:
            above.new = os.open("..", DIRECTORY, dir_fd=level.new)
        if above.old is not None and above.old < 0 and level.old is not None:
            above.old = os.open("..", DIRECTORY, dir_fd=level.old)
    finally:
        level.close()


def _close_far(levels: list[_Level]) -> None:
    """Close the directory that is far above now: not the top, which is the caller's, nor one without a way back."""
    far = len(levels) - _OPEN
    if far < 1:
        return
    level = levels[far]
    if level.new >= 0:
        os.close(level.new)
        level.new = -1
    if level.old is not None and level.old >= 0 and levels[far + 1].old is not None:
        os.close(level.old)
        level.old = -1


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
