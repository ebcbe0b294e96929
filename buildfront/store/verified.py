"""Blobs that are what their digests say.

A blob is hashed once and remembered by the status of its file, so that asking again costs one look. A blob that is
read as a whole is hashed while it is read.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable
from typing import Any, Protocol

from ..errors import BuildError
from ..image.hashed import HashedReader
from ..image.whole_file import has_content, open_regular
from .catalogue import Catalogue

MEND = "pull or load the image again; for one that was built here, build it again with --no-cache"
"""The remedy for a blob that is missing or damaged."""

_RACY_NS = 50_000_000
"""A file that changed less than this before it was hashed may change again with the same times."""


class Blobs(Protocol):
    """The blobs of a store, and the catalogue that remembers which are whole."""

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue of the store."""

    def blob_path(self, digest: str) -> str:
        """Return the path of a blob. Raise BuildError if this is not a sha256 digest."""


def _open(path: str) -> io.FileIO | None:
    try:
        return open_regular(path)
    except PermissionError as error:
        raise BuildError(f"the blob {path} can't be read: {error.strerror}") from None


def _identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_whole(store: Blobs, digest: str, size: int | None = None) -> bool:
    """Whether the store has the blob, of this size, and its content is what the digest says.

    Raise BuildError if this is not a sha256 digest.
    """
    stream = _open(store.blob_path(digest))
    if stream is None:
        return False
    with stream:
        status = os.fstat(stream.fileno())
        if size is not None and status.st_size != size:
            return False
        value = digest.removeprefix("sha256:")
        if store.catalogue.file(*_identity(status)) == value:
            return True
        if not has_content(stream, digest):
            return False
        if time.time_ns() - status.st_ctime_ns > _RACY_NS:
            store.catalogue.set_files([(*_identity(status), value)])
        return True


def remember(store: Blobs, digests: Iterable[str]) -> None:
    """Note that these blobs are whole: they were hashed when they were written, just now, and nothing else writes."""
    rows = []
    for digest in digests:
        stream = _open(store.blob_path(digest))
        if stream is not None:
            with stream:
                rows.append((*_identity(os.fstat(stream.fileno())), digest.removeprefix("sha256:")))
    if rows:
        store.catalogue.set_files(rows)


class BlobReader(io.RawIOBase):
    """A reader of a blob, which gives out the last byte only if the content is what the digest says.

    Reading raises BuildError if the blob is damaged.
    """

    def __init__(self, store: Blobs, digest: str, size: int | None = None) -> None:
        stream = _open(store.blob_path(digest))
        if stream is None:
            raise BuildError(f"the blob {digest} is not in the store", hint=MEND)
        self._file = stream
        self._hashed = HashedReader(stream)
        self._digest = digest
        self._left = os.fstat(stream.fileno()).st_size
        if size is not None and self._left != size:
            self._file.close()
            raise self._damaged(f"it has {self._left} bytes of {size}")
        if not self._left:
            self._check()

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        data = self._hashed.read(min(len(buffer), self._left))
        if self._left and not data:
            raise self._damaged("it became shorter while it was read")
        buffer[: len(data)] = data
        self._left -= len(data)
        if not self._left and data:
            self._check()
        return len(data)

    def _check(self) -> None:
        if self._hashed.digest != self._digest:
            raise self._damaged(f"its digest is {self._hashed.digest}")

    def _damaged(self, why: str) -> BuildError:
        return BuildError(f"the blob {self._digest} is damaged: {why}", hint=MEND)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
