"""The file that tells a caller in another language what became of a step: ``python -m run_step --result FILE``."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from .errors import RequestError
from .stdio.own_streams import Patience, write_all

_FIXED = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS)
"""The errors of a file whose name can't be removed: it is a mount point, or its directory can't be written."""
_LINKS = 40  # as many as the kernel follows (linux/namei.h, MAXSYMLINKS)
_LOOK = 0.05
"""Seconds between two checks whether a named pipe has a reader."""


class ResultFile:
    """A file that is written once, and is there as a whole or not at all.

    A file of that name is removed first: where there is none afterwards, this process was killed before it could write.
    The new file gets its mode, and its owner if possible. Links are followed, and stay. Where a file can't be removed
    (a mount point, a directory that can't be written), it is emptied instead, and written in place. What is not a
    regular file (a pipe, a device) and what is named by its descriptor (``/dev/fd/3``, ``/dev/stdout``) is written to
    as it is.

    Raises RequestError for a path where nothing can be written, and for a file in ``inputs``, whose paths are read
    later. Then nothing is changed.
    """

    def __init__(self, path: str, inputs: Iterable[str] = ()) -> None:
        self.path = path
        self._in_place = 0
        """The flags with which the file is opened where it is; 0 for a file that is replaced."""
        self._own = -1
        """The descriptor of ours that the path names, if it is that of a regular file: it has its own position."""
        self._before: os.stat_result | None = None
        try:
            if not path:
                raise ValueError("the path is empty")
            self._real, self._before = _follow(path), _status(path)
            self._check(inputs)
            self._clear()
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or str(error)
            raise RequestError(f"the result can't be written to {path}: {why}") from None

    def _check(self, inputs: Iterable[str]) -> None:
        """Raise ValueError for what is not a place for a result."""
        if self._before is None:
            return
        if stat.S_ISDIR(self._before.st_mode):
            raise ValueError("it is a directory")
        if stat.S_ISSOCK(self._before.st_mode):
            raise ValueError("it is a socket")
        for other in inputs:
            with suppress(OSError):  # told when it is read
                if os.path.samestat(os.stat(other), self._before):
                    raise ValueError(f"it is the file {other}, which is read")

    def _clear(self) -> None:
        """Remove or empty what is there, if it is a file of its own name. Raises OSError."""
        named = self._real.startswith("/proc/")  # by its descriptor
        directory = os.path.dirname(self._real)
        if self._before is not None and not stat.S_ISREG(self._before.st_mode):
            self._in_place = os.O_WRONLY
            return
        if self._before is not None and named:
            # Without O_TRUNC: a step's output may be there already.
            self._own = _own_descriptor(self._real)
            self._in_place = os.O_WRONLY | os.O_APPEND
            return
        if self._before is not None:
            try:
                os.unlink(self._real)
            except OSError as error:
                if error.errno not in _FIXED:
                    raise
                self._in_place = os.O_WRONLY | os.O_TRUNC
                os.close(os.open(self._real, self._in_place | os.O_CLOEXEC))
                return
        if named or not os.access(directory, os.W_OK | os.X_OK):
            os.stat(directory)
            raise OSError(0, "its descriptor is not open" if named else "its directory can't be written to")

    def write(self, value: Mapping[str, object], patience: Patience) -> None:
        """Write a JSON object. A pipe without a reader is waited for, as long as ``patience`` lasts. Raises OSError."""
        data = (json.dumps(value) + "\n").encode()
        if self._in_place:
            self._write_in_place(data, patience)
            return
        new = os.path.join(os.path.dirname(self._real), f".run_step-{os.urandom(8).hex()}.new")
        try:
            mode = 0o666 if self._before is None else 0o600
            with open(
                os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb"
            ) as stream:
                stream.write(data)
                if self._before is not None:
                    with suppress(OSError):  # only root gives files away
                        os.fchown(stream.fileno(), self._before.st_uid, self._before.st_gid)
                    os.fchmod(stream.fileno(), stat.S_IMODE(self._before.st_mode))
            os.rename(new, self._real)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise

    def _write_in_place(self, data: bytes, patience: Patience) -> None:
        unread = TimeoutError(errno.ETIMEDOUT, "it has no reader")
        flags = self._in_place | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        while True:
            try:
                fd = os.dup(self._own) if self._own >= 0 else os.open(self.path, flags)
                break
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            if patience.is_over():
                raise unread
            time.sleep(_LOOK)
        try:
            if not write_all(fd, lambda part: os.write(fd, part), data, patience):
                raise unread
        finally:
            os.close(fd)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _own_descriptor(path: str) -> int:
    """Return the number of the descriptor of this process that ``path`` names; -1 if it is none for writing."""
    directory, name = os.path.split(path)
    if directory != os.path.realpath("/proc/self/fd") or not name.isdecimal():
        return -1
    mode = fcntl.fcntl(int(name), fcntl.F_GETFL)
    return -1 if mode & os.O_PATH or mode & os.O_ACCMODE == os.O_RDONLY else int(name)


def _follow(path: str) -> str:
    """Return the place to which the links at ``path`` lead, whether there is anything or not.

    A link in /proc is not followed: it is a descriptor, whose file may have no name.
    """
    for _ in range(_LINKS):
        directory, name = os.path.split(path)
        path = os.path.join(os.path.realpath(directory or "."), name)
        if path.startswith("/proc/") or not os.path.islink(path):
            return path
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
