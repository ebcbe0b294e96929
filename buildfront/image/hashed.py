"""Streams that are hashed while they are read or written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import IO, Any

from ..errors import BuildError
from .descriptor import Layer
from .digest import Digest


class HashedReader:
    """A reader of ``stream`` that hashes all that passes. ``size`` is the number of bytes so far."""

    def __init__(self, stream: IO[bytes] | Any) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read from the stream."""
        data: bytes = self._stream.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> Digest:
        """The digest of all that was read so far."""
        return Digest("sha256:" + self._hash.hexdigest())

    def check(self, layer: Layer) -> None:
        """Raise BuildError unless all that was read is the tar with the layer's diff ID."""
        if self.digest != layer.diff_id:
            raise BuildError(
                f"the layer {layer.descriptor.digest} does not hold what its image says: its diff ID is "
                f"{self.digest}, and {layer.diff_id} was expected"
            )


class HashedWriter(io.RawIOBase):
    """A writer to ``target`` that hashes all that passes. ``size`` is the number of bytes so far.

    ``check`` is called before each write and may raise to end it. Closing the writer does not close the target.
    """

    def __init__(self, target: IO[bytes] | Any, check: Callable[[], None] | None = None) -> None:
        self._target = target
        self._check = check
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: Any) -> int:
        """Write to the target."""
        if self._check is not None:
            self._check()
        self._hash.update(data)
        self._target.write(data)
        self.size += len(data)
        return len(data)

    @property
    def digest(self) -> Digest:
        """The digest of all that was written so far."""
        return Digest("sha256:" + self._hash.hexdigest())
