"""Compressed streams, read and written.

The compression is told by the first bytes, or for a layer by its media type. Compressed data is not trusted: memory
stays bounded while it is read, however much it expands to.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import IO, Any

from ..errors import BuildError
from .media_types import LAYER_COMPRESSION
from .tar_header import BLOCK, ArchiveError, is_header

GZIP, ZSTD, XZ, BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh"
_XZ_MEMORY = 80 << 20
"""Enough for xz -9, whose dictionary has 64 MiB."""


class DamagedStream(EOFError):
    """A compressed stream that is damaged, cut off, or asks for too much memory."""


def kind(head: bytes) -> str:
    """Return ``gzip``, ``zstd``, ``xz``, ``bzip2`` or ``plain`` for the beginning of a stream.

    A tar is plain, whatever its first file is called: 512 bytes are needed to see that it is one.
    """
    if is_header(head):
        return "plain"
    for magic, name in ((GZIP, "gzip"), (ZSTD, "zstd"), (XZ, "xz"), (BZIP2, "bzip2")):
        if head.startswith(magic):
            return name
    # A zstd stream may begin with a frame to be skipped (RFC 8878, 3.1.2).
    return "zstd" if len(head) > 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50 else "plain"


class Rejoined(io.RawIOBase):
    """The first bytes of a stream, then the rest of it."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head = memoryview(head)
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        data = self._head[: len(buffer)] if self._head else self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._head = self._head[len(data) :]
        return len(data)


class _Uncompressed:
    """A library's stream of uncompressed bytes, whose errors become DamagedStream."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name = name
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except DamagedStream:
            raise
        except damaged() as error:
            raise DamagedStream(f"the {self._name} data is damaged or cut off: {error}") from None
        return data


def _head(stream: Any) -> bytes:
    """Return the first block, or as much of it as there is."""
    head = b""
    while len(head) < BLOCK and (data := stream.read(BLOCK - len(head))):
        head += data
    return head


def reader(stream: Any) -> IO[bytes]:
    """Return a reader of the uncompressed bytes of ``stream``, whatever its compression.

    Reading raises EOFError or OSError if the stream is damaged or cut off.
    """
    head = _head(stream)
    return _opened(kind(head), io.BufferedReader(Rejoined(head, stream), 1 << 18))


def first_bytes(stream: Any) -> IO[bytes]:
    """Return a reader of the uncompressed bytes of ``stream``, which gives all there are before damage or the end.

    It is slower than :func:`reader`, and meant for the beginning of a stream. It reads like :func:`reader`.
    """
    head = _head(stream)
    name = kind(head)
    buffered = io.BufferedReader(Rejoined(head, stream), 1 << 12)
    raw: io.RawIOBase
    if name == "gzip":
        raw = _Streams(buffered, _Gunzip, b"", 1 << 12)
    elif name == "zstd":
        from .zstd_frames import Frames

        raw = Frames(buffered, at_once=1)
    else:
        return _opened(name, buffered)
    opened: Any = _Uncompressed(name, io.BufferedReader(raw, BLOCK))
    return opened  # type: ignore[no-any-return]


class _Gunzip:
    """A member of a gzip stream, with the methods of the decompressors of bz2 and lzma."""

    def __init__(self) -> None:
        import zlib

        self._decompressor = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompressor.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._decompressor.unconsumed_tail

    def decompress(self, data: bytes, limit: int) -> bytes:
        return self._decompressor.decompress(self._decompressor.unconsumed_tail + data, limit)


def layer_reader(stream: Any, media_type: str) -> IO[bytes]:
    """Return a reader of the tar of a layer, whose media type says how it is compressed.

    Raise BuildError if the media type is unknown, or the stream has another compression.
    """
    wanted = LAYER_COMPRESSION.get(media_type)
    if wanted is None:
        raise ArchiveError(
            f"its media type {media_type[:200]!r} is unknown",
            hint="known are tars of OCI and docker: uncompressed, gzip, zstd",
        )
    head = _head(stream)
    found = kind(head)
    if found != wanted:
        raise ArchiveError(
            f"it is not what its media type says: {media_type} is {_SHOWN[wanted]}, and the layer is {_SHOWN[found]}"
        )
    return _opened(wanted, io.BufferedReader(Rejoined(head, stream), 1 << 18))


_SHOWN = {"plain": "not compressed", "gzip": "gzip", "zstd": "zstd", "xz": "xz", "bzip2": "bzip2"}


def _opened(name: str, buffered: Any) -> IO[bytes]:
    opened: Any
    if name == "gzip":
        from isal import igzip

        opened = igzip.IGzipFile(fileobj=buffered, mode="rb")  # type: ignore[no-untyped-call]
    elif name == "zstd":
        from .zstd_frames import Frames

        opened = io.BufferedReader(Frames(buffered), 1 << 18)
    elif name == "xz":
        import lzma

        def decompressor() -> Any:
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

        opened = io.BufferedReader(_Streams(buffered, decompressor, b"\0"), 1 << 18)
    elif name == "bzip2":
        import bz2

        opened = io.BufferedReader(_Streams(buffered, bz2.BZ2Decompressor, b""), 1 << 18)
    else:
        return buffered  # type: ignore[no-any-return]
    result: Any = _Uncompressed(name, opened)
    return result  # type: ignore[no-any-return]


class _Streams(io.RawIOBase):
    """Streams of one kind, one after the other, with ``padding`` between them."""

    def __init__(
        self, stream: IO[bytes], new: Callable[[], Any], padding: bytes, chunk: int = 1 << 16
    ) -> None:
        self._stream = stream
        self._chunk = chunk
        self._new = new
        self._padding = padding
        self._decompressor = new()
        self._rest = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decompressor.eof:
                self._rest = self._decompressor.unused_data or self._rest
                self._decompressor = self._new()
                self._begun = False
            data = b""
            if self._decompressor.needs_input or not self._begun:
                data = self._rest or self._stream.read(self._chunk)
                self._rest = b""
                if not self._begun and self._padding:
                    more = data.lstrip(self._padding)
                    if data and not more:
                        continue
                    data = more
                if not data:
                    if self._begun:
                        raise EOFError("it ends too early")
                    return 0
            self._begun = True
            try:
                out = self._decompressor.decompress(data, len(buffer))
            except (OSError, ValueError) as error:  # of bz2
                raise EOFError(str(error)) from None
            if out:
                buffer[: len(out)] = out
                return len(out)


def writer(stream: Any, name: str, level: int | None = None) -> Any:
    """Return a writer that compresses into ``stream``; closing it leaves ``stream`` open.

    Equal input gives equal output.
    """
    if name == "gzip":
        from isal import igzip

        chosen = 2 if level is None else max(0, min(3, level // 3))
        return igzip.IGzipFile(filename="", fileobj=stream, mode="wb", compresslevel=chosen, mtime=0)  # type: ignore[no-untyped-call]
    if name == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=level or 3).stream_writer(stream, closefd=False)
    if name == "uncompressed":
        return _Plain(stream)
    raise BuildError(f"unknown compression {name!r}", hint="known are gzip, zstd, uncompressed")


class _Plain(io.RawIOBase):
    """A writer that passes bytes on. Closing it does not close the stream below."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.stream.write(data)


def damaged() -> tuple[type[Exception], ...]:
    """Return the exceptions that mean a damaged stream, of the libraries that are loaded."""
    found: list[type[Exception]] = [EOFError]
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
    """Return :func:`damaged` and the errors of reading at all."""
    return (*damaged(), OSError)
