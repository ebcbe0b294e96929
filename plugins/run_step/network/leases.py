"""Numbers of a pool, each leased to one step: a file for each, locked by the process that holds it.

A lease ends with its process, however the process ends, because its lock is free then. The next process
removes the file, after it has removed everything that the lease stood for. All changes are made under one
lock of the pool.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager

from .. import notes

PREFIX = "lease-"
HOLDER = "holder-"
_LAST, _LOCK = "last", "lock"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _make_private(directory: str) -> None:
    """Make ``directory`` with access only for us, and its missing parents, whatever the umask is."""
    missing = []
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # another builder was faster
        directory = path
    if not notes.is_own_directory(directory):
        raise PermissionError(
            errno.EPERM,
            "others may write it, or it is not a directory of ours; remove it, or give it to root with mode 0700",
            directory,
        )


class Pool:
    """The leases in ``directory``, which is made if it is missing, with access only for root."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes out of the pool. Raises PermissionError for a directory that others may write."""
        _make_private(self.directory)
        fd = os.open(os.path.join(self.directory, _LOCK), _OPEN | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, f"{PREFIX}{number}")

    def numbers(self) -> dict[int, bool]:
        """Return every lease, and whether a process holds it. Call it under the lock."""
        found = {}
        for name in os.listdir(self.directory) if os.path.isdir(self.directory) else ():
            number = name.removeprefix(PREFIX)
            if name.startswith(PREFIX) and number.isascii() and number.isdecimal() and len(number) < 6:
                found[int(number)] = self._held(os.path.join(self.directory, name))
        return found

    @staticmethod
    def _held(path: str) -> bool:
        fd = os.open(path, _OPEN)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def hold(self) -> int:
        """Return a descriptor that holds the pool as a whole, without a number. Call it under the lock."""
        path = os.path.join(self.directory, f"{HOLDER}{os.getpid()}")
        fd = os.open(path, _OPEN | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def is_held(self) -> bool:
        """Whether a process holds the pool; remove the files of those that have ended. Call it under the lock."""
        found = False
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            if name.startswith(HOLDER):
                if self._held(path):
                    found = True
                else:
                    os.unlink(path)
        return found

    def is_used(self) -> bool:
        """Whether the pool has any lease, held or left over. Call it without the lock."""
        try:
            left = set(os.listdir(self.directory)) - {_LOCK, _LAST}
            return any(not name.endswith(".new") for name in left)
        except (FileNotFoundError, PermissionError):
            return False  # it is root's, and an unprivileged user may not look

    def take(self, first: int, last: int, others: Container[int] = ()) -> tuple[int, int] | None:
        """Return a free number from ``first`` to ``last`` and the descriptor that holds it; None if all are taken.

        The numbers in ``others`` are in use without a lease in this pool. Call it under the lock. A number
        that was just released is given out last, so that late packets for its old holder reach no new one.
        """
        taken = self.numbers()
        count = last - first + 1
        start = self._last(first, last) + 1
        for step in range(count):
            number = first + (start - first + step) % count
            if number not in taken and number not in others:
                fd = os.open(self._path(number), _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
                fcntl.flock(fd, fcntl.LOCK_EX)
                with open(os.path.join(self.directory, _LAST), "w", encoding="ascii") as stream:
                    stream.write(str(number))
                return number, fd
        return None

    def _last(self, first: int, last: int) -> int:
        try:
            with open(os.path.join(self.directory, _LAST), encoding="ascii") as stream:
                number = int(stream.read(20))
        except (FileNotFoundError, ValueError):
            return last
        return number if first <= number <= last else last

    def said(self, number: int) -> int:
        """Return the number that the holder of a lease wrote into its file; 0 for none. Call it under the lock."""
        with open(self._path(number), encoding="ascii") as stream:
            text = stream.read(20)
        return int(text) if text.isascii() and text.isdecimal() else 0

    def drop(self, number: int) -> None:
        """Remove the file of a lease. Call it under the lock."""
        os.unlink(self._path(number))
