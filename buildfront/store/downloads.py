"""Downloads that the store keeps: a directory for each place on the network, with a lock, data and a record.

A directory is used by builds (a shared lock), and changed by one (an exclusive one). Whatever was left incomplete by a
program that was killed is removed by the next one that changes the directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from run_step import remove_tree

from .failure import telling

_POLL = 0.05
"""Seconds between two attempts to get a lock that another build has."""

_LARGEST = 1 << 20
_RECORD = "record.json"


class Place:
    """The directory of one place on the network. ``close`` it when the build ends."""

    def __init__(self, root: str, kind: str, name: str) -> None:
        self._root = root
        self.path = os.path.join(
            root, "downloads", kind, hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        )
        self._given: set[str] = set()
        with telling(root):
            self._use = self._open()

    def _open(self) -> int:
        """Return the descriptor of the use lock, held shared."""
        while True:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            try:
                fd = os.open(self._at("use"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                continue  # it was removed just now
            fcntl.flock(fd, fcntl.LOCK_SH)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)

    def close(self) -> None:
        """End the use."""
        if self._use >= 0:
            os.close(self._use)
            self._use = -1

    @contextmanager
    def changing(self, check: Callable[[], None]) -> Iterator[None]:
        """Be the one that changes it. ``check`` is called while another build does, and may raise."""
        with telling(self._root):
            fd = os.open(self._at("change"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    check()
                    time.sleep(_POLL)
            for name in os.listdir(self.path):
                if name.startswith("part-"):
                    remove_tree(self._at(name))
            yield
        finally:
            os.close(fd)

    def record(self) -> dict[str, Any]:
        """Return the record; empty if there is none, or none that can be read."""
        try:
            with open(self._at(_RECORD), "rb") as stream:
                value = json.loads(stream.read(_LARGEST))
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def set_record(self, value: dict[str, Any]) -> None:
        """Replace the record, which is flushed to the disk first."""
        new = self._at("part-record")
        with open(new, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(new, self._at(_RECORD))

    def begin(self) -> str:
        """Make a directory for something that is not complete yet, and return its path."""
        path = self._at("part-data")
        os.mkdir(path, 0o700)
        return path

    def data(self, name: str) -> str:
        """Return the path of complete data, which stays until :meth:`close`."""
        self._given.add(f"data-{name}")
        return self._at(f"data-{name}")

    def keep(self, begun: str, name: str) -> str:
        """Give what was begun its name. Data of this name that is there already is the same, and stays."""
        path = self.data(name)
        if os.path.isdir(path):
            remove_tree(begun)
        else:
            os.rename(begun, path)
        return path

    def drop_others(self) -> None:
        """Remove all data that no build uses, and that has not been asked for here."""
        with suppress(BlockingIOError):
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in os.listdir(self.path):
                if entry.startswith("data-") and entry not in self._given:
                    remove_tree(self._at(entry))
        fcntl.flock(self._use, fcntl.LOCK_SH)

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)
