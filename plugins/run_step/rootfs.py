"""Paths inside a root filesystem, whatever links strangers left in it.

The one helper through which both packages reach into a root filesystem: every path is resolved with the
root as ``/`` and can't leave it. It knows nothing of images, mounts or steps.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .linux.openat2 import open_in_root

_DIR = os.O_PATH | os.O_DIRECTORY


class Created(NamedTuple):
    """A place made to mount on, and the times of its directory before and just after."""

    path: str
    directory: bool
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
        """Release the descriptor; the object is of no use afterwards."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
        """A descriptor of ``path``, links followed inside the root. Raises OSError."""
        return open_in_root(self.fd, path, flags, mode)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The descriptor of the directory that holds ``path`` and the last name of it.

        The last component is not resolved: use it with ``dir_fd`` and without following links.
        """
        head, name = os.path.split(os.path.normpath("/" + path))
        fd = self.open(head, _DIR)
        try:
            yield fd, name or "."
        finally:
            os.close(fd)

    def lstat(self, path: str) -> os.stat_result | None:
        """The status of ``path`` itself, or None where there is nothing."""
        try:
            with self.parent(path) as (fd, name):
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stat(self, path: str) -> os.stat_result | None:
        """The status of what ``path`` leads to inside the root, or None."""
        try:
            fd = self.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def read_text(self, path: str, limit: int = 1 << 20) -> str | None:
        """At most ``limit`` bytes of a regular file, or None where there is none.

        Opened without blocking, so a FIFO put there by an image can't hang the build.
        """
        try:
            fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR):
                return None
            raise
        with os.fdopen(fd, "rb") as stream:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            return stream.read(limit).decode("utf-8", "surrogateescape")

    def make_dirs(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> list[str]:
        """Create ``path`` and its missing parents, all with ``mode`` and owner; return what was created.

        Links on the way are followed inside the root. Raises NotADirectoryError where a file is in the way.
        """
        made: list[str] = []
        todo = [part for part in os.path.normpath("/" + path).split("/") if part]
        done = "/"
        for part in todo:
            here = os.path.join(done, part)
            try:
                os.close(self.open(here, _DIR))
            except FileNotFoundError:
                with self.parent(here) as (fd, name):
                    try:
                        os.mkdir(name, 0o700, dir_fd=fd)
                    except FileExistsError:
                        # A dangling link: what it names is made inside the root.
                        target = os.readlink(name, dir_fd=fd)
                        made += self.make_dirs(os.path.join(done, target), mode, uid, gid)
                        done = here
                        continue
                    os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
                    child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                    try:
                        os.fchmod(child, mode)
                    finally:
                        os.close(child)
                made.append(here)
            done = here
        return made

    def make_mount_point(self, path: str, directory: bool) -> list[Created]:
        """Make ``path`` when missing, and say what :meth:`remove_mount_point` needs to undo it."""
        created: list[Created] = []
        parts = [part for part in os.path.normpath("/" + path).split("/") if part]
        for index, part in enumerate(parts):
            here = "/" + "/".join(parts[: index + 1])
            is_dir = directory or index < len(parts) - 1
            if self.stat(here) is not None:
                continue
            head = os.path.dirname(here)
            fd = self.open(head, os.O_RDONLY | os.O_DIRECTORY)
            try:
                before = os.fstat(fd)
                if is_dir:
                    os.mkdir(part, 0o755, dir_fd=fd)
                else:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(part, flags, 0o644, dir_fd=fd))
                after = os.fstat(fd).st_mtime_ns
            except FileExistsError:
                raise OSError(errno.ELOOP, "a link that leads nowhere is in the way", here) from None
            finally:
                os.close(fd)
            created.append(Created(here, is_dir, before.st_atime_ns, before.st_mtime_ns, after))
        return created

    def remove_mount_point(self, created: list[Created]) -> None:
        """Undo :meth:`make_mount_point` where the step left the place empty; parents get their times back."""
        for place in reversed(created):
            head, name = os.path.split(place.path)
            try:
                fd = self.open(head, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # the step itself removed or replaced the directory
            try:
                untouched = os.fstat(fd).st_mtime_ns == place.mtime_after_ns
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
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
