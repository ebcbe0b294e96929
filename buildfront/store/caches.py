"""Cache mounts: directories that outlive the builds which fill them (``RUN --mount=type=cache``).

Layout: ``caches/NAME/`` for each cache, where NAME is a digest of what identifies it; in it ``cache.json`` and one
directory ``N/`` for each instance, with ``data`` and ``lock``. A build that uses an instance holds its lock, shared or
exclusive, so a killed build releases it. There are several instances if builds did not want to share one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from run_step import Root, remove_tree

from ..errors import BuildError
from .locks import locked_directory

Fill = Callable[[str], None]
"""Fills the empty directory of a new instance."""


class Scratch(Protocol):
    """A session of the store, where a new instance is made, and where one that is removed goes."""

    def place(self, kind: str) -> str:
        """Return a new path; nothing is made."""

    def directory(self, kind: str) -> str:
        """Make a new directory, and return its path."""


_LOOK = 0.01
"""Seconds to wait for a program that holds a lock only to see whether it was free."""

_POLL = 0.2
"""Seconds between two looks whether the build was stopped, while a lock is waited for."""

_LONG = 1 << 20
"""Characters that are read of a cache's description."""


@dataclass(frozen=True)
class CacheRow:
    """An instance. ``size`` is bytes on disk, ``used`` the time of the last use in seconds since the epoch."""

    name: str
    id: str
    instance: int
    size: int
    used: int
    in_use: bool
    path: str


class Cache:
    """An instance in use. Close it to release it."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = os.path.join(path, "data")
        self.lock = lock
        os.utime(lock)  # when it was last used

    def close(self) -> None:
        """Release the instance; the object can't be used afterwards."""
        if self.lock >= 0:
            os.utime(self.lock)
            fcntl.flock(self.lock, fcntl.LOCK_UN)  # for other processes that have the descriptor too
            os.close(self.lock)
            self.lock = -1


class Caches:
    """All cache mounts of a store. Methods may be called by several threads and processes at once."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @staticmethod
    def name(identity: str, base: str) -> str:
        """Return the name of a cache's directory, made of its ID and of what a new one starts with."""
        # An ID that is not UTF-8 has surrogates. Each is encoded by itself, so different IDs stay different.
        text = json.dumps([identity, base], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def take(
        self,
        session: Scratch,
        identity: str,
        base: str,
        sharing: str,
        fill: Fill,
        cancel: threading.Event,
    ) -> Cache | None:
        """Return an instance of the cache ``identity``. Make and fill one if ``sharing`` allows none of those present.

        ``shared``: other builds may use it at the same time. ``private``: no other build does; if all are in use, there
        is a new one. ``locked``: there is only one, and the second build waits. Return None if ``cancel`` is set
        meanwhile.
        """
        directory = os.path.join(self.directory, self.name(identity, base))
        kind = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
        while not cancel.is_set():
            self._describe(session, directory, identity)
            numbers = self._instances(directory)
            if sharing == "locked":
                numbers = numbers[:1]  # builds that share it share it always
            for again in (True, False):
                for number in numbers:
                    path = os.path.join(directory, str(number))
                    lock = self._lock(path, kind | fcntl.LOCK_NB)
                    if lock is not None:
                        return Cache(path, lock)
                if again and numbers and cancel.wait(_LOOK):
                    return None
            if numbers and sharing == "locked":
                path = os.path.join(directory, str(numbers[0]))
                lock = self._wait(path, cancel)
            else:
                # Above all others: the first one must stay the first while it is in use.
                free = max(numbers, default=-1) + 1
                path = os.path.join(directory, str(free))
                lock = self._make(session, path, kind, fill)
            if lock is not None:
                return Cache(path, lock)
        return None

    def _describe(self, session: Scratch, directory: str, identity: str) -> None:
        if os.path.isdir(directory):
            return
        os.makedirs(self.directory, mode=0o700, exist_ok=True)  # see Store._create
        new = session.directory("cache")
        with open(os.path.join(new, "cache.json"), "w", encoding="utf-8", errors="surrogateescape") as stream:
            json.dump({"id": identity}, stream)
        try:
            os.rename(new, directory)
        except OSError:
            _discard(new)
            if not os.path.isdir(directory):
                raise

    @staticmethod
    def _instances(directory: str) -> list[int]:
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if name.isdecimal())

    @staticmethod
    def _lock(path: str, kind: int) -> int | None:
        """Return a descriptor that holds the lock; None if another process has it, or the instance is gone."""
        try:
            fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, kind)
            if _is(path, fd):
                return fd
        except BlockingIOError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _wait(self, path: str, cancel: threading.Event) -> int | None:
        """Do the same as :meth:`_lock`, but wait for the lock.

        A thread waits, because a lock can't be waited for together with an event. A lock that comes after ``cancel`` is
        released at once.
        """
        found: list[int | None] = []
        ended = threading.Event()
        mutex = threading.Lock()
        given_up = False

        def body() -> None:
            lock = self._lock(path, fcntl.LOCK_EX)
            with mutex:
                if not given_up:
                    found.append(lock)
                elif lock is not None:
                    os.close(lock)
            ended.set()

        threading.Thread(target=body, name="buildfront-cache-lock", daemon=True).start()
        while not ended.wait(_POLL):
            if cancel.is_set():
                with mutex:
                    given_up = True
                break
        return found[0] if found else None

    @staticmethod
    def _make(session: Scratch, path: str, kind: int, fill: Fill) -> int | None:
        """Make a new instance, locked before it has its name; return None if another build was first."""
        new = session.directory("cache")
        lock = os.open(os.path.join(new, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, kind)
            data = os.path.join(new, "data")
            os.mkdir(data, 0o755)
            os.chmod(data, 0o755)
            fill(data)
            try:
                with locked_directory(os.path.dirname(os.path.dirname(path))):
                    os.rename(new, path)
            except OSError as error:
                if not os.path.isdir(os.path.dirname(path)) or os.path.isdir(path):
                    _discard(new)
                    os.close(lock)
                    return None  # made by another build, or the whole cache pruned, meanwhile
                raise BuildError(f"the cache {path} can't be made: {error.strerror}") from None
        except BaseException:
            os.close(lock)
            raise
        return lock

    def rows(self, wanted: Callable[[str, int], bool] = lambda identity, used: True) -> list[CacheRow]:
        """Return the instances, the last used first.

        ``wanted`` selects them by ID and time of the last use before they are measured, which takes a while for a large
        cache.
        """
        out = [row for item in self._all() if (row := self._row(*item, wanted)) is not None]
        return sorted(out, key=lambda row: (-row.used, row.id, row.instance))

    def _all(self) -> Iterator[tuple[str, str, int]]:
        for name in sorted(os.listdir(self.directory)) if os.path.isdir(self.directory) else ():
            directory = os.path.join(self.directory, name)
            try:
                with open(
                    os.path.join(directory, "cache.json"), encoding="utf-8", errors="surrogateescape"
                ) as stream:
                    identity = str(json.loads(stream.read(_LONG))["id"])
            except (FileNotFoundError, NotADirectoryError):
                continue  # pruned just now
            except (ValueError, KeyError, TypeError, RecursionError):
                identity = ""  # a power failure; it can be removed as any other
            for number in self._instances(directory):
                yield name, identity, number

    def _row(
        self, name: str, identity: str, number: int, wanted: Callable[[str, int], bool]
    ) -> CacheRow | None:
        path = os.path.join(self.directory, name, str(number))
        try:
            used = int(os.stat(os.path.join(path, "lock")).st_mtime)
        except FileNotFoundError:
            used = 0
        if not wanted(identity, used):
            return None
        lock = self._lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            os.close(lock)
        return CacheRow(name, identity, number, _size(path), used, lock is None, os.path.join(path, "data"))

    def remove(self, session: Scratch, row: CacheRow) -> bool:
        """Remove an instance, and the cache with its last one. Return false if it is in use or gone."""
        path = os.path.join(self.directory, row.name, str(row.instance))
        lock = self._lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is None:
            return False
        try:
            os.rename(path, session.place("cache"))  # the session takes it away
        finally:
            os.close(lock)
        directory = os.path.dirname(path)
        with locked_directory(self.directory):  # no new instance gets its name now
            if not self._instances(directory) and os.path.isdir(directory):
                os.rename(directory, session.place("cache"))
        return True


def _discard(path: str) -> None:
    remove_tree(path)


def _is(path: str, fd: int) -> bool:
    """Whether the lock that we hold is still the instance's: it may have been pruned while we waited."""
    try:
        return os.path.samestat(os.stat(os.path.join(path, "lock")), os.fstat(fd))
    except FileNotFoundError:
        return False


def _size(path: str) -> int:
    """Return the bytes on disk. A file with several names counts once, and one too deep for a path does not count.

    A step may change the tree meanwhile. Whatever it puts in the way, nothing outside is looked at.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    todo = ["/"]
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        root = Root(path)
    except OSError:
        return 0  # pruned just now
    with root:
        while todo:
            directory = todo.pop()
            try:
                fd = root.open(directory, flags)
            except OSError:
                continue
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        status = entry.stat(follow_symlinks=False)
                        identity = (status.st_dev, status.st_ino)
                        if status.st_nlink > 1 and identity in seen:
                            continue
                        seen.add(identity)
                        total += status.st_blocks * 512
                        if stat.S_ISDIR(status.st_mode):
                            todo.append(os.path.join(directory, entry.name))
            except OSError:
                continue  # gone just now
            finally:
                os.close(fd)
    return total
