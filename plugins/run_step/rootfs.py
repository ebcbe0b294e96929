"""Paths inside a root filesystem, safe against any links that an image has in it.

Both packages reach into a root filesystem only through :class:`Root`: every path is resolved with the
root as ``/`` and can't leave it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .errors import HostError, RequestError
from .linux.openat2 import components, open_in_root

_DIR = os.O_PATH | os.O_DIRECTORY
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""The errors of a path that leads to nothing."""
_MAX_LINKS = 40  # as many as the kernel follows (linux/namei.h, MAXSYMLINKS)


def above(path: str) -> list[str]:
    """Return the parent directories of a clean, absolute path, the topmost first, without the root directory."""
    return [path[:index] for index, letter in enumerate(path) if letter == "/" and index]


class Created(NamedTuple):
    """A place made to mount on: its inode, and the times of its directory before and just after."""

    path: str
    directory: bool
    identity: tuple[int, int]
    atime_ns: int
    mtime_ns: int
    mtime_after_ns: int


class Root:
    """A root filesystem, held by a descriptor of its directory.

    Paths are given as the step sees them (``/etc/passwd``); a relative path counts from ``/``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Release the descriptor; the object can't be used afterwards."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
        """Return a descriptor of ``path``, with links followed inside the root. Raises OSError."""
        return open_in_root(self.fd, path, flags, mode)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Yield the descriptor of the directory that holds ``path``, and the last component.

        The last component is not resolved: use it with ``dir_fd`` and without following links.
        """
        head, name = os.path.split(os.path.normpath("/" + path))
        fd = self.open(head, _DIR)
        try:
            yield fd, name or "."
        finally:
            os.close(fd)

    def lstat(self, path: str) -> os.stat_result | None:
        """Return the status of ``path`` itself, or None if it does not exist."""
        try:
            with self.parent(path) as (fd, name):
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def stat(self, path: str) -> os.stat_result | None:
        """Return the status of the target of ``path``, with links followed inside the root, or None."""
        try:
            fd = self.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def resolve(self, path: str) -> str:
        """Return ``path`` with links resolved inside the root, without a leading slash. Raises OSError."""
        fd = self.open(path, os.O_PATH)
        try:
            top, found = (os.readlink(f"/proc/self/fd/{number}") for number in (self.fd, fd))
        finally:
            os.close(fd)
        return found.removeprefix(top).lstrip("/")

    def lines(self, path: str, limit: int = 8 << 20) -> Iterator[str]:
        """Yield the lines of a regular file, without their line ends; none if there is no such file.

        Other kinds of files are not opened at all: a FIFO in an image could hang the build, and a device do
        worse. Raises OSError before the first line if the file has more than ``limit`` bytes, because a part
        of it could be misleading.
        """
        status = self.stat(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            return
        try:
            fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise
        with os.fdopen(fd, "rb") as stream:
            now = os.fstat(fd)
            if not stat.S_ISREG(now.st_mode):
                return
            if now.st_size > limit:
                raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MiB", path)
            left = limit
            while left > 0 and (line := stream.readline(left)):
                left -= len(line)
                yield line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")

    def _reach(self, path: str, make: Callable[[str, bool], None]) -> None:
        """Walk to ``path``, following links inside the root, even dangling ones.

        ``make`` is called with the real path of each missing component, and whether it is the last; it must
        create it.
        """
        todo = [part for part in os.path.normpath("/" + path).split("/") if part]
        real, links = "/", 0
        while todo:
            part = todo.pop(0)
            if part == ".":
                continue
            if part == "..":
                real = os.path.dirname(real)
                continue
            here = os.path.join(real, part)
            status = self.lstat(here)
            if status is None:
                make(here, not todo)
            elif stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                with self.parent(here) as (fd, name):
                    target = os.readlink(name, dir_fd=fd)
                real = "/" if target.startswith("/") else real
                todo[:0] = components(target)
                continue
            elif todo and not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here)
            real = here

    def make_dirs(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> list[str]:
        """Create ``path`` and its missing parents, all with ``mode`` and owner; return the paths that were created.

        Links on the way are followed inside the root. Raises NotADirectoryError if a file is in the way.
        """
        made: list[str] = []

        def make(here: str, last: bool) -> None:
            with self.parent(here) as (fd, name):
                os.mkdir(name, 0o700, dir_fd=fd)
                os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
                child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                try:
                    os.fchmod(child, mode)
                finally:
                    os.close(child)
            made.append(here)

        self._reach(path, make)
        os.close(self.open(path, _DIR))
        return made

    def make_mount_point(self, path: str, directory: bool, mode: int = 0o755) -> list[Created]:
        """Make ``path`` if it is missing, and return what :meth:`remove_mount_point` needs to undo it.

        ``mode`` is that of the directory itself; new parents get 0755.
        """
        created: list[Created] = []

        def make(here: str, last: bool) -> None:
            head, name = os.path.split(here)
            is_dir = directory or not last
            fd = self.open(head, os.O_RDONLY | os.O_DIRECTORY)
            try:
                before = os.fstat(fd)
                if is_dir:
                    os.mkdir(name, 0o755, dir_fd=fd)
                    os.chmod(name, mode if last else 0o755, dir_fd=fd)  # whatever the umask is
                else:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    made = os.open(name, flags, 0o644, dir_fd=fd)
                    try:
                        os.fchmod(made, 0o644)
                    finally:
                        os.close(made)
                own = os.stat(name, dir_fd=fd, follow_symlinks=False)
                after = os.fstat(fd).st_mtime_ns
            finally:
                os.close(fd)
            identity = own.st_dev, own.st_ino
            created.append(Created(here, is_dir, identity, before.st_atime_ns, before.st_mtime_ns, after))

        try:
            self._reach(path, make)
        except OSError:
            self.remove_mount_point(created)
            raise
        return created

    def remove_mount_point(self, created: list[Created]) -> None:
        """Undo :meth:`make_mount_point` if the step left the place empty; parents get their times back."""
        for place in reversed(created):
            head, name = os.path.split(place.path)
            try:
                fd = self.open(head, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # the step itself removed or replaced the directory
            try:
                untouched = os.fstat(fd).st_mtime_ns == place.mtime_after_ns
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if (status.st_dev, status.st_ino) != place.identity:
                    continue  # the step has put something of its own in this place
                if place.directory:
                    os.rmdir(name, dir_fd=fd)
                elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
                    os.unlink(name, dir_fd=fd)
                if untouched:
                    os.utime(fd, ns=(place.atime_ns, place.mtime_ns))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                    raise
            finally:
                os.close(fd)


def open_rootfs(path: str) -> Root:
    """Open the root filesystem that a request or a caller names.

    Raises RequestError where ``path`` is not the absolute path of a directory, HostError where it can't be opened.
    """
    if not path.startswith("/"):
        raise RequestError(f"rootfs {path!r}: the path must be absolute")
    try:
        return Root(path)
    except ValueError:
        raise RequestError(f"rootfs {path!r}: a path can't have a null byte") from None
    except FileNotFoundError:
        raise RequestError(f"rootfs {path}: it does not exist") from None
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise RequestError(f"rootfs {path}: it is not a directory") from None
        if error.errno in _ABSENT:
            raise RequestError(f"rootfs {path}: {error.strerror}") from None
        raise HostError(f"rootfs {path} can't be opened: {error.strerror}") from None
