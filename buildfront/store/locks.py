"""Locks of directories, and directories without an owner."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

UNFINISHED = "new-"
"""The beginning of a session's name until it has its lock."""


@contextmanager
def locked_directory(path: str) -> Iterator[None]:
    """Hold the lock of a directory itself; the kernel releases it, whatever ends the process."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def abandoned_directory(tmp: str) -> Iterator[str]:
    """Make a directory among the sessions for things to be removed.

    The next build removes it, like a session that was killed; it stays as long as the lock is held.
    """
    with locked_directory(tmp):
        yield tempfile.mkdtemp(prefix=UNFINISHED, dir=tmp)
