"""Files that are whole: written beside their place and moved there, or found to have the content that is expected."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO


@contextmanager
def replaced(path: str) -> Iterator[IO[bytes]]:
    """Open a new file for writing that takes the place of ``path`` at the end, unless an exception is raised."""
    new = f"{path}.{os.getpid()}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)  # of a killed program that had our process ID
    try:
        with open(new, "xb") as out:
            yield out
        os.rename(new, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise


def open_regular(path: str) -> io.FileIO | None:
    """Open a regular file, unbuffered; return None if it is missing or something else.

    A link is not followed, a FIFO is not waited for. Raise PermissionError for a file that may not be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return io.FileIO(fd, "rb")
    os.close(fd)
    return None


def has_content(stream: io.FileIO, digest: str, size: int | None = None) -> bool:
    """Whether a file has this digest and, if it is given, this size. Read the file only if the size is right."""
    if size is not None and os.fstat(stream.fileno()).st_size != size:
        return False
    return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() == digest
