"""Headers of a tar: numbers, checksums, PAX records, maps of sparse files.

Functions take bytes and return values. They raise BuildError for anything that violates the formats (POSIX pax, ustar,
v7, GNU, star).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from zlib import adler32

from ..errors import BuildError

BLOCK = 512
XATTR = b"SCHILY.xattr."
MAX_PIECES = 131_072
"""Pieces of a sparse file; GNU tar writes one for each run of data."""
MAX_SPARSE = 1 << 40
"""Bytes of a sparse file, holes included: what it stands for is written out in layers."""

HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s66x8s8s155s12x")
"""Name, mode, uid, gid, size, mtime, checksum, typeflag, link name, magic, device numbers, prefix."""
_PAIR = struct.Struct("12s12s")
_SPARSE = b"GNU.sparse."
_WANTED = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"))
_TEXTS = frozenset((b"path", b"linkpath", _SPARSE + b"name"))
_TIME = re.compile(r"(-?[0-9]{1,20})(\.[0-9]*)?")


class ArchiveError(BuildError):
    """An archive is damaged, cut off, beyond the limits, or can't be unpacked."""


def damaged(what: str) -> ArchiveError:
    """Return the error for an archive that violates the format."""
    return ArchiveError(f"the tar archive is damaged or cut off: {what}")


def text(raw: bytes) -> str:
    """Return a name as Python writes names of files: bytes that are not UTF-8 are kept."""
    return raw.decode("utf-8", "surrogateescape")


@lru_cache(4096)
def number(field: bytes) -> int:
    """Return the number in a field of a header: octal, or base-256, in which GNU and star write large numbers."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip()
    if digits.translate(None, b"01234567"):
        raise damaged(f"{digits!r} is not an octal number")
    return int(digits or b"0", 8)


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are a tar header: its checksum fits, as unsigned or, as old programs had it, signed bytes."""
    if len(block) < BLOCK:
        return False
    field = block[148:156]
    try:
        stored = int(field.partition(b"\0")[0], 8)
    except ValueError:
        return False
    # The low half of Adler-32 is a sum modulo 65521, which half a block stays below.
    total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:BLOCK]) & 0xFFFF) - 2 - sum(field) + 256
    if stored == total:
        return True
    high = len(block[:148].translate(None, _ASCII)) + len(block[156:BLOCK].translate(None, _ASCII))
    return stored == total - 256 * high


_ASCII = bytes(range(128))


class Pax:
    """The records of PAX headers that say something about a file; the rest is dropped."""

    __slots__ = ("pairs", "sparse", "values", "xattrs")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.xattrs: dict[str, bytes] = {}
        self.sparse: dict[bytes, bytes] = {}
        self.pairs: list[bytes] = []
        """Offset, length, offset, length … of the sparse format 0.0, which repeats its keys."""

    def read(self, data: bytes) -> None:
        """Add the records of one header, which replace earlier ones. Raise BuildError if one is malformed."""
        for key, value in _records(data):
            if key in _WANTED:
                if value:
                    self.values[key] = value
                else:  # takes back what was said before (POSIX)
                    self.values.pop(key, None)
            elif key.startswith(XATTR):
                self.xattrs[text(key[len(XATTR) :])] = value
            elif key.startswith(_SPARSE):
                word = key[len(_SPARSE) :]
                if word in (b"offset", b"numbytes"):
                    if len(self.pairs) % 2 != (word == b"numbytes") or len(self.pairs) > 2 * MAX_PIECES:
                        raise damaged("the map of a sparse file is out of order or too long")
                    self.pairs.append(value)
                else:
                    self.sparse[word] = value

    def over(self, below: Pax) -> Pax:
        """Return these records, and those of ``below`` that they do not replace."""
        out = Pax()
        out.values = {**below.values, **self.values}
        out.xattrs = {**below.xattrs, **self.xattrs}
        out.sparse, out.pairs = self.sparse, self.pairs
        return out

    def number(self, key: bytes, otherwise: int) -> int:
        """Return a number of the records, or the one of the header. Raise BuildError if it is malformed."""
        raw = self.values.get(key)
        return otherwise if raw is None else decimal(raw, text(key))

    def mtime(self, otherwise: int) -> int:
        """Return the time in whole seconds; digits after the point are dropped. Raise BuildError if it is malformed."""
        raw = self.values.get(b"mtime")
        if raw is None:
            return otherwise
        shown = text(raw)
        found = _TIME.fullmatch(shown)
        if found is not None:
            return int(found[1])
        try:
            return int(float(shown)) if len(shown) < 64 else int("")
        except (ValueError, OverflowError):
            raise damaged(f"{shown[:40]!r} is not a time") from None


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, end = 0, len(data)
    while at < end:
        if data[at] == 0 and not data[at:].strip(b"\0"):
            return
        space = data.find(b" ", at, at + 12)
        digits = data[at:space] if space >= 0 else b""
        stop = at + int(digits) if digits.isdigit() else at
        if space < 0 or stop > end or stop < space + 3 or data[stop - 1] != 0x0A:
            raise damaged("a PAX header has a record of a wrong length")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key:
            raise damaged("a PAX header has a record with no key or no '='")
        if b"\0" in key or (key in _TEXTS and b"\0" in value):
            raise damaged("a PAX header has a name with a null byte")
        yield key, value
        at = stop


def decimal(raw: bytes, what: str) -> int:
    """Return a number of a PAX record, at least 0. Raise BuildError if it is malformed."""
    if not raw.isdigit() or len(raw) > 20:
        raise damaged(f"{text(raw[:40])!r} is not a number ({what})")
    return int(raw)


# sparse files

Map = list[tuple[int, int]]
"""Offset and length of each piece of data."""


def old_pieces(raw: bytes, count: int) -> Map:
    """Return the pieces in a header of GNU's old format: ``count`` places, of which the first empty one ends them."""
    out = []
    for index in range(count):
        offset, length = _PAIR.unpack_from(raw, index * 24)
        if not length[0]:
            break
        out.append((number(offset), number(length)))
    return out


def pairs(numbers: list[bytes]) -> Map:
    """Return the pieces in a list of offset, length, offset, length … Raise BuildError if it is malformed."""
    if len(numbers) % 2 or len(numbers) > 2 * MAX_PIECES:
        raise damaged("the map of a sparse file is cut off or too long")
    found = [decimal(item, "the map of a sparse file") for item in numbers]
    return list(zip(found[::2], found[1::2], strict=True))


def check_map(pieces: Map, size: int, stored: int, name: str) -> Map:
    """Return the pieces that are not empty.

    Raise BuildError unless they are in order, do not overlap, lie inside the file's ``size``, and have ``stored`` bytes
    together.
    """
    if not 0 <= size <= MAX_SPARSE:
        raise damaged(f"the sparse file {name!r} has {size} bytes; at most {MAX_SPARSE} are read")
    if len(pieces) > MAX_PIECES:
        raise damaged(f"the sparse file {name!r} has more than {MAX_PIECES} pieces")
    end = total = 0
    for offset, length in pieces:
        if offset < end or length < 0 or offset + length > size:
            raise damaged(f"the map of the sparse file {name!r} is impossible")
        end = offset + length
        total += length
    if total != stored:
        raise damaged(f"the map of the sparse file {name!r} has {total} bytes, and {stored} are stored")
    return [piece for piece in pieces if piece[1]]
