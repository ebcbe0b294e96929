"""zstd streams (RFC 8878), read block by block.

The library is given whole blocks, a few at a time: a few bytes can stand for 128 KiB, so that is the only way to bound
what comes out. It also tells a frame that is cut off from one that has ended.
"""

from __future__ import annotations

import io
from typing import IO, Any

MAX_WINDOW = 64 << 20
"""The memory that a frame may ask for; zstd -19 asks for 8 MiB."""
_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPED = b"\x2a\x4d\x18"
_MAX_BLOCK = 128 << 10
_AT_ONCE = 8
_RAW, _RLE, _COMPRESSED = range(3)


class Frames(io.RawIOBase):
    """The content of all frames.

    Reading raises EOFError if the stream is cut off or is not zstd, or the error of the library. ``at_once`` is the
    number of blocks that are decompressed together.
    """

    def __init__(self, stream: IO[bytes], at_once: int = _AT_ONCE) -> None:
        import zstandard

        self._stream = stream
        self._at_once = at_once
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._frame: Any = None
        self._last = 0
        self._data = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read decompressed bytes into ``buffer`` (io.RawIOBase)."""
        while not self._data:
            if self._frame is None:
                if not self._begin():
                    return 0
            else:
                self._data = memoryview(self._frame.decompress(self._blocks()))
                if self._frame.eof:
                    self._frame = None
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def _take(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise EOFError("it ends too early")
        return data

    def _begin(self) -> bool:
        """Read the header of the next frame. Return false at the end."""
        magic = self._stream.read(4)
        if not magic:
            return False
        if len(magic) == 4 and magic[1:] == _SKIPPED and magic[0] & 0xF0 == 0x50:
            left = int.from_bytes(self._take(4), "little")
            while left:
                left -= len(self._take(min(left, 1 << 16)))
            return True
        if magic != _MAGIC:
            raise EOFError("a zstd frame is followed by something else")
        head = self._take(1)
        single = head[0] >> 5 & 1
        size_bytes = (single, 2, 4, 8)[head[0] >> 6]
        rest = self._take((0 if single else 1) + (0, 1, 2, 4)[head[0] & 3] + size_bytes)
        window = int.from_bytes(rest[len(rest) - size_bytes :], "little")
        if not single:
            base = 1 << (10 + (rest[0] >> 3))
            window = base + (base >> 3) * (rest[0] & 7)
        if window > MAX_WINDOW:
            raise EOFError(
                f"it wants {window >> 20} MiB of memory, and {MAX_WINDOW >> 20} are given (zstd --long, --ultra)"
            )
        self._last = 4 if head[0] & 4 else 0
        self._frame = self._decompressor.decompressobj()
        self._frame.decompress(magic + head + rest)
        return True

    def _blocks(self) -> bytes:
        """Return the next few blocks, with their headers, and after the last one the checksum of the frame."""
        parts = []
        for _ in range(self._at_once):
            head = self._take(3)
            value = int.from_bytes(head, "little")
            kind, size = value >> 1 & 3, value >> 3
            if kind > _COMPRESSED or size > _MAX_BLOCK:
                raise EOFError("a block is impossible")
            parts += [head, self._take(1 if kind == _RLE else size)]
            if value & 1:
                parts.append(self._take(self._last))
                break
        return b"".join(parts)
