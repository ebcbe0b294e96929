"""Blobs: written beside, hashed while written, renamed into place. Content-addressed, never changed."""

from __future__ import annotations

import hashlib
import os
from typing import IO, Any

from ..errors import BuildError
from ..image.model import Descriptor


class BlobWriter:
    """A blob on its way in. Write to it, then :meth:`commit`; dropped without commit it leaves nothing."""

    def __init__(self, blobs: str, temporary: str) -> None:
        self._blobs = blobs
        self._path = temporary
        self._file: IO[bytes] = open(temporary, "xb")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        """Hash and write."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """For streams that expect it; commit flushes."""

    def reopen(self) -> IO[bytes]:
        """What was written so far, to read."""
        self._file.flush()
        return open(self._path, "rb")

    @property
    def digest(self) -> str:
        """``sha256:…`` of what was written so far."""
        return "sha256:" + self._hash.hexdigest()

    def commit(self, media_type: str, expected: str = "") -> Descriptor:
        """Flush to the disk and move into place.

        Raises BuildError, and drops the data, when ``expected`` is another digest.
        """
        digest = self.digest
        if expected and digest != expected:
            self.discard()
            raise BuildError(f"a blob is damaged: its digest is {digest}, and {expected} was expected")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.chmod(self._path, 0o644)
        os.rename(self._path, os.path.join(self._blobs, digest.removeprefix("sha256:")))
        return Descriptor(media_type, digest, self.size)

    def discard(self) -> None:
        """Throw it away."""
        try:
            self._file.close()
        except OSError:
            pass  # what was still to be written is not wanted any more; the file is closed nevertheless
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
