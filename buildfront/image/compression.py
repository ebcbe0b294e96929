"""Streams in and out of compression, told by their first bytes."""

from __future__ import annotations

import io
import sys
from typing import IO, Any

from ..errors import BuildError

GZIP, ZSTD, XZ, BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh"


def kind(head: bytes) -> str:
    """``gzip``, ``zstd``, ``xz``, ``bzip2`` or ``plain``."""
    for magic, name in ((GZIP, "gzip"), (ZSTD, "zstd"), (XZ, "xz"), (BZIP2, "bzip2")):
        if head.startswith(magic):
            return name
    return "plain"


def sniffed(head: bytes) -> str:
    return kind(head)


def layer_reader(stream: Any, media_type: str) -> IO[bytes]:
    return reader(stream)


def reader(stream: Any) -> IO[bytes]:
    """The uncompressed bytes of ``stream``, whatever it is compressed with. Errors come while reading:
    EOFError, OSError or ValueError for a stream that is damaged or cut off."""
    buffered: Any = stream if hasattr(stream, "peek") else io.BufferedReader(stream, 1 << 18)
    name = kind(buffered.peek(6)[:6])
    opened: Any = buffered
    if name == "gzip":
        from isal import igzip

        opened = igzip.IGzipFile(fileobj=buffered, mode="rb")  # type: ignore[no-untyped-call]
    elif name == "zstd":
        opened = io.BufferedReader(_Zstd(buffered), 1 << 18)
    elif name == "xz":
        import lzma

        opened = lzma.LZMAFile(buffered)
    elif name == "bzip2":
        import bz2

        opened = bz2.BZ2File(buffered)
    return opened  # type: ignore[no-any-return]


class _Zstd(io.RawIOBase):
    """zstd frames; one that is cut off raises EOFError, where the library's own reader ends in silence."""

    def __init__(self, stream: IO[bytes]) -> None:
        import zstandard

        self._stream = stream
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame: Any = None
        self._data = memoryview(b"")
        self._unused = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._data:
            # Little at a time: a block of a few bytes can stand for 128 KiB.
            chunk = self._unused or self._stream.read(1 << 13)
            self._unused = b""
            if not chunk:
                if self._frame is not None:
                    raise EOFError("the zstd stream is cut off")
                return 0
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._data = memoryview(self._frame.decompress(chunk))
            if self._frame.eof:
                self._unused, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


def writer(stream: Any, name: str, level: int | None = None) -> Any:
    """A stream that compresses into ``stream``; closing it leaves ``stream`` open. Equal input, equal output."""
    if name == "gzip":
        from isal import igzip

        chosen = 2 if level is None else max(0, min(3, level // 3))
        return igzip.IGzipFile(filename="", fileobj=stream, mode="wb", compresslevel=chosen, mtime=0)  # type: ignore[no-untyped-call]
    if name == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=level or 3).stream_writer(stream, closefd=False)
    if name == "uncompressed":
        return _Uncompressed(stream)
    raise BuildError(f"unknown compression {name!r}", hint="known are gzip, zstd, uncompressed")


class _Uncompressed(io.RawIOBase):
    """Passes bytes on, and can be closed without closing what is below."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.stream.write(data)


def damaged() -> tuple[type[Exception], ...]:
    """The exceptions that mean a damaged stream, of the libraries that are loaded."""
    import tarfile

    found: list[type[Exception]] = [EOFError, tarfile.TarError]
    if "zstandard" in sys.modules:
        found.append(sys.modules["zstandard"].ZstdError)
    if "lzma" in sys.modules:
        found.append(sys.modules["lzma"].LZMAError)
    import zlib

    found.append(zlib.error)
    if "isal.isal_zlib" in sys.modules:
        found.append(sys.modules["isal.isal_zlib"].error)
    import gzip

    found.append(gzip.BadGzipFile)
    return tuple(found)


def unreadable() -> tuple[type[Exception], ...]:
    """:func:`damaged` and the errors of reading at all."""
    return (*damaged(), OSError)
