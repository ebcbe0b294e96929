"""Locks of directories, and directories that nobody owns."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

UNFINISHED = "new-"
"""What the name of a session begins with until it has its lock."""


@contextmanager
def locked_directory(path: str) -> Iterator[None]:
    """Hold the lock of a directory itself; the kernel gives it back, whatever ends the process."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def abandoned_directory(tmp: str) -> Iterator[str]:
    """A directory among the sessions for what is of no use any more. The next build takes it away, as it does with a
    session that was killed; nobody does meanwhile."""
    with locked_directory(tmp):
        yield tempfile.mkdtemp(prefix=UNFINISHED, dir=tmp)
