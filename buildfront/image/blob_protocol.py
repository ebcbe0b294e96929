"""The interface between archives or registries and the place where blobs are kept: the store, or any directory.

A blob is *whole* if it is there and its content has the digest that it is named by.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol

from .descriptor import Descriptor, Layer
from .digest import Digest


class BlobSource(Protocol):
    """A place to read blobs from. Methods may be called by several threads."""

    def is_whole(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is there, of this size, and its content is what its digest says."""

    def open_blob(self, digest: str) -> IO[bytes]:
        """Open a blob that was found whole. Its content is not checked again."""

    def read_blob(self, digest: str) -> bytes:
        """Return a document, its digest checked. Raise BuildError if it is missing, damaged or too large."""


class BlobWriter(Protocol):
    """A blob that is being written. It is not in its place before :meth:`commit`."""

    @property
    def size(self) -> int:
        """The number of bytes that were written so far."""

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far."""

    def write(self, data: Any) -> int:
        """Append bytes."""

    def reopen(self) -> IO[bytes]:
        """Open what was written so far to read it."""

    def commit(self, media_type: str) -> Descriptor:
        """Move the blob into its place."""

    def discard(self) -> None:
        """Remove what was written. Do nothing if that was done before."""


class BlobSink(BlobSource, Protocol):
    """A place to write blobs to as well."""

    @property
    def path(self) -> str:
        """A directory for temporary files."""

    def blob(self) -> BlobWriter:
        """Begin a new blob."""

    def is_layer(self, layer: Layer) -> bool:
        """Whether the blob is known to hold the tar of the layer's diff ID."""

    def remember(self, blobs: Iterable[Digest], layers: Iterable[Layer]) -> None:
        """Note that blobs were just written whole, and that layers hold the tars of their diff IDs."""


class BlobStore(BlobSource, Protocol):
    """A place whose temporary files belong to a session."""

    def session(self) -> AbstractContextManager[BlobSink]:
        """Begin a session; its temporary files are removed at its end."""
