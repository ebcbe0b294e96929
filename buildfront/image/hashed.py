"""Streams that are hashed while they are read or written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import IO, Any

from ..errors import BuildError
from .model import Layer


class HashedReader:
    """Passes reads on; ``diff_id`` is the digest of all that was read so far."""

    def __init__(self, stream: IO[bytes] | Any) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read, and hash what was read."""
        data: bytes = self._stream.read(size)
        self._hash.update(data)
        return data

    @property
    def diff_id(self) -> str:
        """``sha256:…``"""
        return "sha256:" + self._hash.hexdigest()

    def check(self, layer: Layer) -> None:
        """Raises BuildError where what was read is not the tar that the layer's diff ID says."""
        if self.diff_id != layer.diff_id:
            raise BuildError(
                f"the layer {layer.descriptor.digest} does not hold what its image says: its diff ID is "
                f"{self.diff_id}, and {layer.diff_id} was expected"
            )


def _go_on() -> None:
    return None


class HashedWriter(io.RawIOBase):
    """Passes writes on; ``diff_id`` is the digest of all that was written so far.

    ``check`` is called before each write, and may raise to end it.
    """

    def __init__(self, target: IO[bytes], check: Callable[[], None] = _go_on) -> None:
        self._target = target
        self._check = check
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Hash the data, and pass all of it on."""
        self._check()
        self._hash.update(data)
        self._target.write(data)
        return len(data)

    @property
    def diff_id(self) -> str:
        """``sha256:…``"""
        return "sha256:" + self._hash.hexdigest()
