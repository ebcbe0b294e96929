"""Blobs: written beside, hashed while they are written, renamed into place. Content-addressed, never changed."""

from __future__ import annotations

import os
from typing import IO, Any

from ..image.descriptor import Descriptor
from ..image.digest import Digest
from ..image.hashed import HashedWriter


class BlobWriter:
    """A blob that is being written. It is in the store after :meth:`commit`; without that it leaves nothing."""

    def __init__(self, blobs: str, temporary: str) -> None:
        self._blobs = blobs
        self._path = temporary
        self._file: IO[bytes] = open(temporary, "xb")
        self._hashed = HashedWriter(self._file)

    def write(self, data: Any) -> int:
        """Append bytes."""
        return self._hashed.write(data)

    def flush(self) -> None:
        """Do nothing: this is for streams that call it, and commit flushes."""

    def reopen(self) -> IO[bytes]:
        """Open what was written so far to read it."""
        self._file.flush()
        return open(self._path, "rb")

    @property
    def size(self) -> int:
        """The number of bytes that were written so far."""
        return self._hashed.size

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return self._hashed.digest

    def commit(self, media_type: str) -> Descriptor:
        """Flush the blob to the disk and move it into place."""
        digest = self.digest
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.chmod(self._path, 0o644)
        os.rename(self._path, os.path.join(self._blobs, digest.hex))
        return Descriptor(media_type, digest, self.size)

    def discard(self) -> None:
        """Remove what was written. Do nothing if that was done before."""
        try:
            self._file.close()
        except OSError:
            pass  # the rest is not wanted any more; the file is closed nevertheless
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
