"""Copies, moves and removals of whole directory trees, which are not trusted.

A copy keeps all attributes of a file, and the holes in it. However deep a tree is, neither the stack nor the
descriptors run out, and no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_FILES_OWN = ("trusted.overlay.", "user.overlay.", "security.selinux", "system.")
"""Attributes that are set by a filesystem or by the machine, and so not copied."""

_NO_RANGES = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}
"""The errors of copy_file_range(2) after which sendfile(2) can be used."""

_LONG = 1000
"""The longest path in characters that is surely within PATH_MAX, in any encoding and with a prefix."""

_DEEP = 64
"""The limit for directories that are open at once while a tree is removed."""


def copy_tree(source: int, target: int) -> None:
    """Copy the contents of an open directory into another, and the directory's own attributes.

    They are its mode, owner, times and extended attributes. Hard links within the tree are kept. ``target``
    must be empty and not used by others. Raises OSError with the name that could not be copied.
    """
    _Copy(source, target).run()


def copy_entry(source: int, name: str, target: int, new: str) -> None:
    """Copy one entry of an open directory, with everything below it, to a new entry ``new`` of another."""
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        _copy_file(source, name, status, target, new)
        return
    os.mkdir(new, 0o700, dir_fd=target)
    inner = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        made = os.open(new, _DIRECTORY, dir_fd=target)
        try:
            copy_tree(inner, made)
        finally:
            os.close(made)
    finally:
        os.close(inner)


def copy_content(reader: int, writer: int) -> None:
    """Copy a regular file's bytes into an empty one; the kernel shares them if the filesystem can."""
    size = os.fstat(reader).st_size
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(reader, offset, os.SEEK_DATA)
            end = os.lseek(reader, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            begin, end = offset, size  # a filesystem without holes
        if not _copy_range(reader, writer, begin, end):
            break  # it has become shorter meanwhile
        offset = end
    os.ftruncate(writer, size)


def _copy_range(reader: int, writer: int, begin: int, end: int) -> bool:
    in_kernel = True
    while begin < end:
        count = min(end - begin, 1 << 30)
        try:
            if in_kernel:
                done = os.copy_file_range(reader, writer, count, begin, begin)
            else:
                os.lseek(writer, begin, os.SEEK_SET)
                done = os.sendfile(writer, reader, begin, count)
        except OSError as error:
            if not in_kernel or error.errno not in _NO_RANGES:
                raise
            in_kernel = False
            continue
        if done == 0 and in_kernel:
            in_kernel = False  # files of /proc and the like, whose size is not that of their content
        elif done == 0:
            return False
        begin += done
    return True


def _copy_file(source: int, name: str, status: os.stat_result, target: int, new: str) -> None:
    """Copy an entry that is not a directory."""
    kind = status.st_mode
    if stat.S_ISREG(kind):
        reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        try:
            make = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            writer = os.open(new, make, 0o600, dir_fd=target)
            try:
                copy_content(reader, writer)
            finally:
                os.close(writer)
        finally:
            os.close(reader)
    elif stat.S_ISLNK(kind):
        os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
    else:
        os.mknod(new, stat.S_IFMT(kind) | 0o600, status.st_rdev, dir_fd=target)
    os.chown(new, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(kind):
        os.chmod(_at(target, new), stat.S_IMODE(kind))
    _copy_attributes(_at(source, name), _at(target, new))
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(new, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_attributes(source: str, target: str) -> None:
    """Copy the extended attributes that belong to the file itself, such as capabilities."""
    for key in os.listxattr(source, follow_symlinks=False):
        if not key.startswith(_NOT_A_FILES_OWN):
            value = os.getxattr(source, key, follow_symlinks=False)
            os.setxattr(target, key, value, follow_symlinks=False)


def _at(fd: int, name: str) -> str:
    """Return a path by which calls without ``dir_fd`` reach an entry of an open directory."""
    return f"/proc/self/fd/{fd}/{name}"


@dataclass
class _Level:
    """A directory whose entries are being copied: ``rest`` holds those still to come."""

    path: str | None  # None if it is too long for the kernel
    status: os.stat_result
    made: os.stat_result
    rest: Iterator[str] = field(default_factory=lambda: iter(()))


class _Copy:
    """One copy of a tree.

    Besides the two tops, two directories are open at a time. The way up is "..", which must be the directory
    that we came from.
    """

    def __init__(self, source: int, target: int) -> None:
        self._top = target
        self._source = os.dup(source)
        self._target = os.dup(target)
        self._levels: list[_Level] = []
        self._links: dict[tuple[int, int], str] = {}

    def run(self) -> None:
        try:
            self._levels.append(self._level(""))
            while self._levels:
                name = next(self._levels[-1].rest, None)
                if name is None:
                    self._leave()
                else:
                    self._entry(name)
        finally:
            os.close(self._source)
            os.close(self._target)

    def _level(self, path: str | None) -> _Level:
        names = iter(os.listdir(self._source))
        return _Level(path, os.fstat(self._source), os.fstat(self._target), names)

    def _entry(self, name: str) -> None:
        status = os.stat(name, dir_fd=self._source, follow_symlinks=False)
        path = self._path(name)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=self._target)
            self._go(name)
            self._levels.append(self._level(path))
        elif status.st_nlink == 1 or not self._link((status.st_dev, status.st_ino), name):
            _copy_file(self._source, name, status, self._target, name)
            if status.st_nlink > 1 and path is not None:
                self._links[status.st_dev, status.st_ino] = path

    def _path(self, name: str) -> str | None:
        above = self._levels[-1].path
        return None if above is None or len(above) + len(name) > _LONG else f"{above}/{name}"

    def _link(self, identity: tuple[int, int], name: str) -> bool:
        """Give a file that is copied already another name; return False if that fails, and it must be copied again."""
        path = self._links.get(identity)
        if path is None:
            return False
        try:
            first = f"/proc/self/fd/{self._top}{path}"
            os.link(first, name, dst_dir_fd=self._target, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            return False
        return True

    def _leave(self) -> None:
        level = self._levels.pop()
        os.fchown(self._target, level.status.st_uid, level.status.st_gid)
        os.fchmod(self._target, stat.S_IMODE(level.status.st_mode))
        _copy_attributes(_at(self._source, "."), _at(self._target, "."))
        os.utime(self._target, ns=(level.status.st_atime_ns, level.status.st_mtime_ns))
        if self._levels:
            self._up()

    def _up(self) -> None:
        self._go("..")
        above = self._levels[-1]
        same = os.path.samestat(os.fstat(self._source), above.status)
        if not same or not os.path.samestat(os.fstat(self._target), above.made):
            raise OSError(errno.EBUSY, "a directory was moved while it was copied", above.path or "")

    def _go(self, name: str) -> None:
        for side in ("_source", "_target"):
            fd = os.open(name, _DIRECTORY, dir_fd=getattr(self, side))
            os.close(getattr(self, side))
            setattr(self, side, fd)


def check_move(source: int, target: int) -> str:
    """Return the first path below ``source`` that :func:`move_tree` could not put in place; else the empty string.

    It is a path that is not a directory, but a directory with entries in ``target``. Changes nothing.
    """
    check = _Check(source, target)
    check.run()
    return check.found


def move_tree(source: int, target: int) -> None:
    """Move the contents of an open directory into another, which may have entries of its own.

    Entries with the same name are replaced, and no link is followed. Directories that both have are merged,
    with the mode, owner, times and attributes of ``source``'s. ``target`` itself keeps its own, and all its
    other entries.

    A file is never visible half-written. Raises OSError with the name that could not be moved.
    """
    _Move(source, target).run()


class _Move(_Copy):
    """A move: a copy into a tree that may have entries. Files are renamed if both are on one filesystem."""

    def _entry(self, name: str) -> None:
        status = os.stat(name, dir_fd=self._source, follow_symlinks=False)
        there = _status(name, self._target)
        if stat.S_ISDIR(status.st_mode):
            if there is not None and not stat.S_ISDIR(there.st_mode):
                os.unlink(name, dir_fd=self._target)
                there = None
            if there is None:
                os.mkdir(name, 0o700, dir_fd=self._target)
            self._go(name)
            self._levels.append(self._level(self._path(name)))
            return
        if there is not None and stat.S_ISDIR(there.st_mode):
            os.rmdir(name, dir_fd=self._target)
        try:
            os.rename(name, name, src_dir_fd=self._source, dst_dir_fd=self._target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        self._replace(name, status)

    def _replace(self, name: str, status: os.stat_result) -> None:
        """Copy to another filesystem: first under a temporary name beside the place, then into it."""
        aside = f".buildfront-{os.urandom(8).hex()}"
        path = self._path(name)
        identity = (status.st_dev, status.st_ino)
        try:
            if status.st_nlink == 1 or not self._link(identity, aside):
                _copy_file(self._source, name, status, self._target, aside)
                if status.st_nlink > 1 and path is not None:
                    self._links[identity] = path
            os.rename(aside, name, src_dir_fd=self._target, dst_dir_fd=self._target)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside, dir_fd=self._target)
            raise
        # If both are names of one file, rename(2) leaves both as they are.
        with suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=self._target)

    def _leave(self) -> None:
        if len(self._levels) == 1:
            self._levels.pop()  # the top, which the caller owns
        else:
            super()._leave()


class _Check(_Copy):
    """A walk like that of a move, without changes. Only directories that both have are entered."""

    found = ""

    def _entry(self, name: str) -> None:
        if self.found:
            return
        status = os.stat(name, dir_fd=self._source, follow_symlinks=False)
        there = _status(name, self._target)
        if there is None or not stat.S_ISDIR(there.st_mode):
            return
        if stat.S_ISDIR(status.st_mode):
            self._go(name)
            self._levels.append(self._level(self._path(name)))
            return
        fd = os.open(name, _DIRECTORY, dir_fd=self._target)
        try:
            if os.listdir(fd):
                self.found = (self._path(name) or name).lstrip("/")
        finally:
            os.close(fd)

    def _leave(self) -> None:
        self._levels.pop()
        if self._levels:
            self._up()


def _status(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove_tree(path: str) -> None:
    """Remove a directory with everything in it, of any depth; its contents are not trusted.

    No link is followed. An entry that can't be removed stays, without an error.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except OSError:
        return
    deeper: list[str] = []

    def empty(name: str, parent: int, depth: int) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            with os.scandir(fd) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for inner, directory in found:
                try:
                    if not directory:
                        os.unlink(inner, dir_fd=fd)
                    elif depth < _DEEP:
                        empty(inner, fd, depth + 1)
                        os.rmdir(inner, dir_fd=fd)
                    else:  # back to the top, so that neither descriptors nor the stack run out
                        aside = os.urandom(16).hex()
                        os.rename(inner, aside, src_dir_fd=fd, dst_dir_fd=top)
                        deeper.append(aside)
                except OSError:
                    continue
        finally:
            os.close(fd)

    try:
        empty(".", top, 0)
        while deeper:
            name = deeper.pop()
            try:
                empty(name, top, 1)
                os.rmdir(name, dir_fd=top)
            except OSError:
                continue
        os.rmdir(path)
    except OSError:
        pass
    finally:
        os.close(top)
