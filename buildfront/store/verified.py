"""Blobs that are what their digests say. A blob is hashed once and remembered by its file's status, so that asking
again costs one look; whoever reads a whole blob has it hashed on the way."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from typing import TYPE_CHECKING, Any

from ..errors import BuildError

if TYPE_CHECKING:
    from .image_store import Store

_RACY_NS = 50_000_000
"""A file that changed less than this before it was hashed may change again without its times telling."""


def _open(path: str) -> int | None:
    """A descriptor of a regular file; None where there is none. Raises BuildError for one that can't be opened."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise BuildError(f"the blob {path} can't be read: {error.strerror}") from None
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_whole(store: Store, digest: str, size: int | None = None) -> bool:
    """Whether the store has the blob, of this size, and its content is what the digest says. Raises BuildError for
    what is no sha256 digest."""
    fd = _open(store.blob_path(digest))
    if fd is None:
        return False
    with os.fdopen(fd, "rb", buffering=0) as stream:
        status = os.fstat(fd)
        if size is not None and status.st_size != size:
            return False
        value = digest.removeprefix("sha256:")
        if store.catalogue.file(*_identity(status)) == value:
            return True
        if hashlib.file_digest(stream, "sha256").hexdigest() != value:
            return False
        if time.time_ns() - status.st_ctime_ns > _RACY_NS:
            store.catalogue.set_files([(*_identity(status), value)])
        return True


def remember(store: Store, digests: list[str]) -> None:
    """Keep that these blobs are whole: they were hashed when they were written, just now, and nobody else writes."""
    rows = []
    for digest in digests:
        fd = _open(store.blob_path(digest))
        if fd is not None:
            rows.append((*_identity(os.fstat(fd)), digest.removeprefix("sha256:")))
            os.close(fd)
    if rows:
        store.catalogue.set_files(rows)


class BlobReader(io.RawIOBase):
    """A blob to read. The last byte is given out only when the content is what the digest says.

    Reading raises BuildError for a blob that is damaged.
    """

    def __init__(self, store: Store, digest: str, size: int | None = None) -> None:
        fd = _open(store.blob_path(digest))
        if fd is None:
            raise BuildError(f"the blob {digest} is not in the store", hint=MEND)
        self._file = os.fdopen(fd, "rb", buffering=0)
        self._digest = digest
        self._left = os.fstat(fd).st_size
        self._hash = hashlib.sha256()
        if size is not None and self._left != size:
            self._file.close()
            raise self._damaged(f"it has {self._left} bytes of {size}")
        if not self._left:
            self._check()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        if self._left and not count:
            raise self._damaged("it became shorter while it was read")
        self._hash.update(memoryview(buffer)[:count])
        self._left -= count
        if not self._left and count:
            self._check()
        return count

    def _check(self) -> None:
        found = "sha256:" + self._hash.hexdigest()
        if found != self._digest:
            raise self._damaged(f"its digest is {found}")

    def _damaged(self, why: str) -> BuildError:
        return BuildError(f"the blob {self._digest} is damaged: {why}", hint=MEND)

    def close(self) -> None:
        self._file.close()
        super().close()


MEND = "pull or load the image again; for one that was built here, build it again with --no-cache"
"""What helps where a blob is missing or damaged."""
