"""Directory trees that are not trusted, however deep: a walk that holds one descriptor, removal, and small sets.

Others must not change such a tree meanwhile: so ".." is the directory above, and no link is followed.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RECENT = 1 << 16


class Marks:
    """A set of 64-bit numbers that only grows: eight bytes each once there are many."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[array[int]] = []

    def add(self, value: int) -> None:
        """Add a number."""
        self._recent.add(value)
        if len(self._recent) >= _RECENT:
            self._runs.append(array("q", sorted(self._recent)))
            self._recent = set()

    def recent(self, value: int) -> bool:
        """Whether a number was added lately; false says nothing. It is quicker than ``in``."""
        return value in self._recent

    def __contains__(self, value: int) -> bool:
        if value in self._recent:
            return True
        for run in self._runs:
            at = bisect_left(run, value)
            if at < len(run) and run[at] == value:
                return True
        return False


class Directories:
    """The directories of a tree, opened by their paths one after the other; one near the last costs little."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._fd = os.dup(root)
        self._path = ""
        self._parts: list[str] = []

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self._fd)

    def __enter__(self) -> Directories:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, path: str) -> int:
        """Return a descriptor of a directory, valid until the next call. ``path`` has no leading slash."""
        if path == self._path:
            return self._fd
        parts = path.split("/") if path else []
        known, common = self._parts, 0
        for one, two in zip(known, parts, strict=False):
            if one != two:
                break
            common += 1
        up = len(known) - common
        if up > common:  # from the top it is not farther
            self._go(os.dup(self._root))
            up = common = 0
        try:
            for _ in range(up):
                self._go(os.open("..", _PATH, dir_fd=self._fd))
            for part in parts[common:]:
                self._go(os.open(part, _PATH, dir_fd=self._fd))
        except OSError:
            self._go(os.dup(self._root))
            self._path, self._parts = "", []
            raise
        self._path, self._parts = path, parts
        return self._fd

    def _go(self, fd: int) -> None:
        os.close(self._fd)
        self._fd = fd


def remove(fd: int, name: str) -> None:
    """Remove an entry of an open directory, whatever it is. Do nothing if it is not there."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        _remove_directory(fd, name)


def _remove_directory(parent: int, name: str) -> None:
    # Neither renamed to the top, which an overlay refuses, nor by recursion.
    here = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        names, pending = [name], [_unlink_all(here)]
        while True:
            if pending[-1]:
                below = pending[-1].pop()
                inner = os.open(below, DIRECTORY, dir_fd=here)
                os.close(here)
                here = inner
                names.append(below)
                pending.append(_unlink_all(here))
                continue
            pending.pop()
            done = names.pop()
            if not pending:
                break
            above = os.open("..", DIRECTORY, dir_fd=here)
            os.close(here)
            here = above
            os.rmdir(done, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=parent)


def _unlink_all(fd: int) -> list[str]:
    """Remove all but the directories, and return those."""
    while True:
        directories, removed = [], 0
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=fd)
                    removed += 1
        if not removed:  # a removal while the directory is read may hide entries from the reader
            return directories
