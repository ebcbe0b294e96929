"""Blobs in a plain directory: what the blob protocol asks for, and no store."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from buildfront.errors import BuildError
from buildfront.image.blob_protocol import BlobSink
from buildfront.image.descriptor import Descriptor, Layer
from buildfront.image.digest import Digest


class Writer:
    """A file that gets the name of its digest."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        descriptor, self.path = tempfile.mkstemp(prefix="new-", dir=directory)
        self._file = os.fdopen(descriptor, "wb")
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        return Digest("sha256:" + self._hash.hexdigest())

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def reopen(self) -> IO[bytes]:
        self._file.flush()
        return open(self.path, "rb")

    def commit(self, media_type: str) -> Descriptor:
        self._file.close()
        os.rename(self.path, self._directory / self.digest.hex)
        return Descriptor(media_type, self.digest, self.size)

    def discard(self) -> None:
        self._file.close()
        Path(self.path).unlink(missing_ok=True)


class BlobDirectory:
    """A directory of blobs. ``layers`` are those that were found to hold the tars of their diff IDs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.path = str(directory)
        self.layers: set[Layer] = set()

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def is_whole(self, digest: str, size: int | None = None) -> bool:
        path = self.directory / Digest.parse(digest).hex
        if not path.exists():
            return False
        data = path.read_bytes()
        return Digest.of(data) == digest and size in (None, len(data))

    def open_blob(self, digest: str) -> IO[bytes]:
        return open(self.directory / Digest.parse(digest).hex, "rb")

    def read_blob(self, digest: str) -> bytes:
        if not self.is_whole(digest):
            raise BuildError(f"the blob {digest} is not here")
        return (self.directory / Digest.parse(digest).hex).read_bytes()

    def blob(self) -> Writer:
        return Writer(self.directory)

    def is_layer(self, layer: Layer) -> bool:
        return layer in self.layers

    def remember(self, blobs: Iterable[Digest], layers: Iterable[Layer]) -> None:
        assert all(self.is_whole(digest) for digest in blobs)
        self.layers |= set(layers)


def sink(directory: Path) -> BlobSink:
    """A directory of blobs, as those see it that know the protocol alone."""
    return BlobDirectory(directory)
