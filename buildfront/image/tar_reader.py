"""A tar, read as a stream: v7, ustar, star, GNU and PAX, with their sparse files.

Archives come from strangers. Whatever they say, memory stays bounded, a loop ends with the stream, and what is
impossible is a BuildError that says where. Nothing is read ahead beyond a chunk, and nothing is kept of a member that
has passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from . import tar_header as h
from .tar_header import BLOCK, HEADER, ArchiveError, Map, Pax, damaged, is_header, number, text

FILE, DIRECTORY, SYMLINK, HARD_LINK = "file", "directory", "symbolic link", "hard link"
CHARACTER, BLOCK_DEVICE, FIFO, UNKNOWN = "character device", "block device", "FIFO", "unknown"
EXTENDED_LIMIT = 1 << 20
"""Bytes of one extended header, with PAX values or a long name; Go's archive/tar has the same limit."""
EXTENDED_IN_A_ROW = 16
MAX_MEMBERS = 8_000_000
MAX_SIZE = (1 << 63) - 1
_CHUNK = 1 << 20
_ZEROS = bytes(BLOCK)
_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"S": FILE,
    b"1": HARD_LINK,
    b"2": SYMLINK,
    b"3": CHARACTER,
    b"4": BLOCK_DEVICE,
    b"5": DIRECTORY,
    b"6": FIFO,
}
_WITHOUT_DATA = frozenset((DIRECTORY, SYMLINK, HARD_LINK, CHARACTER, BLOCK_DEVICE, FIFO))
_EXTENDED = b"xXgLK"
_NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})


def shown(name: str) -> str:
    """Return a name for an error message: quoted, and not longer than a few lines."""
    return repr(name if len(name) <= 300 else name[:300] + "…")


class Stream(Protocol):
    """A stream that archives are read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""


class Member(NamedTuple):
    """An entry. ``size`` is that of the file, holes included; ``flag`` is the type flag of the header."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = _NO_XATTRS
    flag: bytes = b"0"


class Cancellable:
    """A reader that calls ``check`` before each read, which raises if the result is not wanted any more."""

    def __init__(self, stream: Any, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check

    def read(self, size: int = -1) -> bytes:
        """Read from the stream."""
        self._check()
        data: bytes = self._stream.read(size)
        return data


class TarReader:
    """A tar. Iterate over it for the members; a member's data can be read before the next one.

    ``seekable``: skip data by seeking (the stream is a file whose position is 0). Everything raises BuildError for an
    archive that is damaged, cut off or beyond the limits, and passes on what the stream raises.
    """

    def __init__(
        self, stream: Any, *, seekable: bool = False, limit: int = MAX_MEMBERS, chunk: int = _CHUNK
    ) -> None:
        self._stream: Stream = stream
        self._end = os.fstat(stream.fileno()).st_size if seekable else None
        self._limit = limit
        self._chunk = chunk
        self._buffer = b""
        self._at = 0
        self._base = 0
        self._left = 0
        self._pad = 0
        self._map: Map | None = None
        self._size = 0
        self._name = ""
        self._global = Pax()
        self._global_bytes = 0

    @property
    def offset(self) -> int:
        """The position in the stream of the current member's unread data."""
        return self._base + self._at

    @property
    def sparse(self) -> bool:
        """Whether the current member is stored with holes."""
        return self._map is not None

    def __iter__(self) -> Iterator[Member]:
        count = 0
        while (member := self._next(count == 0)) is not None:
            count += 1
            if count > self._limit:
                raise ArchiveError(f"the tar archive has more than {self._limit} entries")
            yield member

    def drain(self) -> None:
        """Read the stream to its end, so that its digest is that of all its bytes."""
        self._buffer, self._at = b"", 0
        while self._stream.read(self._chunk):
            pass

    # the data

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """Yield the current member's data, with its positions in the file."""
        for start, length in self._map if self._map is not None else ((0, self._left),):
            offset, end = start, start + length
            while offset < end:
                if self._at == len(self._buffer):
                    self._more()
                data = memoryview(self._buffer)[self._at : self._at + end - offset]
                self._at += len(data)
                self._left -= len(data)
                yield offset, data
                offset += len(data)

    def copy_to(self, fd: int) -> None:
        """Write the current member's data to an empty file; holes stay holes."""
        if self._map is None:
            length = self._left
            if 0 < length <= len(self._buffer) - self._at:  # the usual, small file
                end = self._at + length
                _write(fd, memoryview(self._buffer)[self._at : end])
                self._at, self._left = end, 0
                return
            for _, data in self.pieces():
                _write(fd, data)
            return
        for offset, data in self.pieces():
            os.lseek(fd, offset, os.SEEK_SET)
            _write(fd, data)
        os.ftruncate(fd, self._size)

    # the stream

    def _more(self) -> None:
        """Replace the buffer, which is used up, by the next chunk. Raise BuildError at the end."""
        self._base += len(self._buffer)
        self._buffer, self._at = self._stream.read(self._chunk), 0
        if not self._buffer:
            raise ArchiveError(f"the tar archive is damaged or cut off: it ends in {shown(self._name)}")

    def _take(self, count: int) -> bytes:
        """Return a number of bytes, or as many as there are."""
        end = self._at + count
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        self._base += len(self._buffer)
        while have < count:
            data = self._stream.read(self._chunk)
            if not data:
                break
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._base -= len(parts[0])
        self._buffer, self._at = whole, min(count, have)
        return whole[:count]

    def _skip(self, count: int) -> None:
        inside = len(self._buffer) - self._at
        if count <= inside:
            self._at += count
            return
        if self._end is not None and count > inside + self._chunk:
            target = self.offset + count
            if target > self._end:
                raise ArchiveError(f"the tar archive is damaged or cut off: it ends in {shown(self._name)}")
            self._stream.seek(target)  # type: ignore[attr-defined]
            self._base, self._buffer, self._at = target, b"", 0
            return
        count -= inside
        while count:
            self._more()
            self._at = min(count, len(self._buffer))
            count -= self._at

    # headers

    def _next(self, first: bool) -> Member | None:
        skipped = self._left + self._pad
        if skipped:
            self._skip(skipped)
        self._left = self._pad = 0
        self._map = None
        pax: Pax | None = None
        long_name: bytes | None = None
        long_link: bytes | None = None
        row = 0
        while True:
            block = self._take(BLOCK)
            if len(block) < BLOCK or block == _ZEROS:
                self._check_end(block, first and row == 0, pax or long_name or long_link)
                return None
            if not is_header(block):
                if first and row == 0:
                    raise ArchiveError("this is not a tar archive: it does not begin with a tar header")
                raise damaged(f"there is no header after {shown(self._name)}")
            fields = HEADER.unpack(block)
            flag: bytes = fields[7]
            if flag in _EXTENDED:
                row += 1
                if row > EXTENDED_IN_A_ROW:
                    raise damaged(f"more than {EXTENDED_IN_A_ROW} extended headers for one entry")
                data = self._extended(number(fields[4]))
                if flag == b"L":
                    long_name = data.partition(b"\0")[0]
                elif flag == b"K":
                    long_link = data.partition(b"\0")[0]
                elif flag == b"g":
                    self._global_bytes += len(data)
                    if self._global_bytes > EXTENDED_LIMIT:
                        raise damaged(f"global headers of more than {EXTENDED_LIMIT} bytes")
                    self._global.read(data)
                else:
                    pax = Pax()
                    pax.read(data)
                continue
            member = self._member(fields, block, pax, long_name, long_link)
            if flag != b"V":  # the volume's label
                return member
            self._skip(self._left + self._pad)
            pax = long_name = long_link = None
            first, row = False, row + 1
            if row > EXTENDED_IN_A_ROW:
                raise damaged(f"more than {EXTENDED_IN_A_ROW} labels")

    def _check_end(self, block: bytes, first: bool, waiting: object) -> None:
        if first and not block:
            raise ArchiveError("this is not a tar archive: it is empty")
        if block.strip(b"\0"):
            what = "this is not a tar archive: it does not begin with a tar header"
            raise ArchiveError(what) if first else damaged(f"it ends after {shown(self._name)}, in a header")
        if waiting:
            raise damaged("it ends after an extended header")

    def _extended(self, size: int) -> bytes:
        if not 0 <= size <= EXTENDED_LIMIT:
            raise damaged(f"an extended header of {size} bytes; at most {EXTENDED_LIMIT} are read")
        data = self._take(size + -size % BLOCK)
        if len(data) < size + -size % BLOCK:
            raise damaged("it ends in an extended header")
        return data[:size]

    def _member(
        self,
        fields: tuple[Any, ...],
        block: bytes,
        pax: Pax | None,
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Member:
        (
            raw,
            mode,
            uid_field,
            gid_field,
            size_field,
            mtime_field,
            _,
            flag,
            link,
            magic,
            major,
            minor,
            prefix,
        ) = fields
        if long_name is None:
            name = raw.partition(b"\0")[0]
            if prefix[0] and magic == b"ustar\0":
                if block[508:] == b"tar\0":  # star has two times behind a shorter prefix
                    prefix = prefix[:131]
                name = prefix.partition(b"\0")[0] + b"/" + name
        else:
            name = long_name
        link = link.partition(b"\0")[0] if long_link is None else long_link
        size, uid, gid, mtime = number(size_field), number(uid_field), number(gid_field), number(mtime_field)
        xattrs = _NO_XATTRS
        if pax is not None or self._global_bytes:
            pax = (pax or Pax()).over(self._global)
            name, link = pax.values.get(b"path", name), pax.values.get(b"linkpath", link)
            size, mtime = pax.number(b"size", size), pax.mtime(mtime)
            uid, gid = pax.number(b"uid", uid), pax.number(b"gid", gid)
            xattrs = pax.xattrs or _NO_XATTRS
        kind = _KINDS.get(flag, UNKNOWN)
        if kind is FILE and name.endswith(b"/"):
            kind = DIRECTORY
        if kind is DIRECTORY:
            name = name.rstrip(b"/")
            stored = size if flag != b"5" else 0
            real = 0
        else:
            real = stored = 0 if kind in _WITHOUT_DATA else size
        self._name = decoded = text(name)
        if not 0 <= stored <= MAX_SIZE:
            raise damaged(f"{shown(decoded)} has a size of {stored} bytes")
        self._left, self._pad = stored, -stored % BLOCK
        if kind is FILE and (flag == b"S" or (pax is not None and (pax.sparse or pax.pairs))):
            decoded, real = self._sparse(block, flag, pax, decoded, stored)
        self._size = real
        device = (0, 0)
        if kind is CHARACTER or kind is BLOCK_DEVICE:
            device = number(major), number(minor)
        return Member(decoded, kind, number(mode), uid, gid, real, mtime, text(link), device, xattrs, flag)

    # sparse files

    def _sparse(self, block: bytes, flag: bytes, pax: Pax | None, name: str, stored: int) -> tuple[str, int]:
        """Read the map of a sparse file, and return its name and size."""
        if flag == b"S":
            pieces = h.old_pieces(block[386:482], 4)
            size = number(block[483:495])
            more = block[482]
            while more:
                block = self._take(BLOCK)
                if len(block) < BLOCK or len(pieces) > h.MAX_PIECES:
                    raise damaged(f"the map of the sparse file {shown(name)} is cut off or too long")
                pieces += h.old_pieces(block, 21)
                more = block[504]
        else:
            assert pax is not None
            said = pax.sparse
            name = text(said[b"name"]) if b"name" in said else name
            size = h.decimal(said.get(b"realsize", said.get(b"size", b"%d" % stored)), "GNU.sparse.size")
            if b"map" in said:
                pieces = h.pairs(said[b"map"].split(b",") if said[b"map"] else [])
            elif b"size" in said:
                pieces = h.pairs(pax.pairs)
            elif (said.get(b"major"), said.get(b"minor")) == (b"1", b"0"):
                before = self.offset
                pieces = self._map_in_data(stored, name)
                stored -= self.offset - before
                self._left = stored
            else:
                raise damaged(f"the sparse file {shown(name)} is of an unknown format")
        self._name = name
        self._map = h.check_map(pieces, size, stored, name)
        return name, size

    def _map_in_data(self, stored: int, name: str) -> Map:
        """Return the map of the sparse format 1.0: decimal lines before the data, padded to a block."""
        numbers: list[bytes] = []
        rest, wanted = b"", 1
        while len(numbers) < wanted:
            block = self._take(BLOCK)
            stored -= BLOCK
            if len(block) < BLOCK or stored < 0 or len(rest) > 40:
                raise damaged(f"the map of the sparse file {shown(name)} is cut off")
            *lines, rest = (rest + block).split(b"\n")
            if wanted == 1 and lines:
                count = h.decimal(lines.pop(0), "the map of a sparse file")
                if count > h.MAX_PIECES:
                    raise damaged(f"the sparse file {shown(name)} has more than {h.MAX_PIECES} pieces")
                wanted = 2 * count
                if not count:
                    return []
            numbers += lines
        return h.pairs(numbers[:wanted])


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
