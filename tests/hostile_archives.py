"""One table of archives that mean harm, for every place where an archive comes in.

``CASES``: name to a function that makes the archive's bytes, given the path of a directory outside that must not
change. ``BIG`` are those that are large once uncompressed: made piece by piece.
"""

from __future__ import annotations

import bz2
import lzma
import struct
from collections.abc import Callable, Iterable, Iterator

import zstandard
from isal import igzip

BLOCK = 512
END = bytes(2 * BLOCK)


def octal(value: int, width: int) -> bytes:
    assert 0 <= value < 8 ** (width - 1)
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """A number as GNU writes large and negative ones."""
    raw = bytearray(value.to_bytes(width, "big", signed=True))
    raw[0] |= 0x80
    return bytes(raw)


def header(
    name: bytes,
    *,
    flag: bytes = b"0",
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[int, int] | bytes = b"",
    prefix: bytes = b"",
    checksum: bytes | None = None,
    whole: bytes = b"",
) -> bytes:
    """One header; a number is written as octal, bytes as they are. ``whole``: what stands from byte 345 on."""

    def field(value: int | bytes, width: int) -> bytes:
        return (value if isinstance(value, bytes) else octal(value, width)).ljust(width, b"\0")

    if isinstance(device, tuple):
        device = octal(device[0], 8) + octal(device[1], 8)
    raw = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            field(mode, 8),
            field(uid, 8),
            field(gid, 8),
            field(size, 12),
            field(mtime, 12),
            b" " * 8,
            flag,
            link[:100].ljust(100, b"\0"),
            magic,
            bytes(64),
            device.ljust(16, b"\0"),
            whole or prefix.ljust(155, b"\0"),
        )
    ).ljust(BLOCK, b"\0")
    total = b"%06o\0 " % sum(raw) if checksum is None else checksum
    return raw[:148] + total + raw[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes, data: bytes = b"", **fields) -> bytes:
    return header(name, **{"size": len(data), **fields}) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record with its own length in front."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def pax(*records: bytes, flag: bytes = b"x") -> bytes:
    return member(b"PaxHeaders/x", b"".join(records), flag=flag)


def with_pax(key: bytes, value: bytes, **fields) -> bytes:
    """A file with one record about it."""
    return pax(record(key, value)) + member(b"f", b"data", **fields) + END


def long_name(name: bytes, flag: bytes = b"L") -> bytes:
    return member(b"././@LongLink", name + b"\0", flag=flag, magic=b"ustar  \0")


def old_sparse(
    pieces: list[tuple[int, int]], real: int | bytes, stored: bytes, *, more: bool = False
) -> bytes:
    """GNU's old format: up to four pieces in the header."""
    table = b"".join(octal(offset, 12) + octal(length, 12) for offset, length in pieces).ljust(96, b"\0")
    whole = bytes(41) + table + (b"\1" if more else b"\0")
    whole += real if isinstance(real, bytes) else octal(real, 12)
    return header(b"s", flag=b"S", size=len(stored), magic=b"ustar  \0", whole=whole) + padded(stored)


def new_sparse(text: bytes, real: int, data: bytes = b"") -> bytes:
    """The format 1.0: the map in front of the data."""
    records = [
        record(b"GNU.sparse.major", b"1"),
        record(b"GNU.sparse.minor", b"0"),
        record(b"GNU.sparse.name", b"s"),
        record(b"GNU.sparse.realsize", b"%d" % real),
    ]
    return pax(*records) + member(b"GNUSparseFile/s", padded(text) + data) + END


def sparse_map(text: bytes, real: bytes = b"100") -> bytes:
    """The format 0.1: the map as one record."""
    return (
        pax(record(b"GNU.sparse.map", text), record(b"GNU.sparse.size", real)) + member(b"s", b"data") + END
    )


def directories(depth: int, name: bytes = b"d") -> Iterator[bytes]:
    """Directories in each other, by GNU's long names."""
    path = b""
    for _ in range(depth):
        path += name + b"/"
        if len(path) > 99:
            yield long_name(path)
        yield header(path, flag=b"5", mode=0o755)


FILE = member(b"f", b"data")
Make = Callable[[str], bytes]
CASES: dict[str, Make] = {}


def case(name: str, make: bytes | Make) -> None:
    CASES[name] = (lambda _, data=make: data) if isinstance(make, bytes) else make


# sizes

for _label, _size in {
    "2^60": base256(1 << 60, 12),
    "2^63": base256(1 << 63, 12),
    "2^63-1": base256((1 << 63) - 1, 12),
    "2^94": base256(1 << 94, 12),
    "-1": base256(-1, 12),
    "-2^60": base256(-(1 << 60), 12),
    "8 GiB in octal": b"77777777777\0",
    "no number": b"12x45678901\0",
    "minus in octal": b"-0000000005\0",
    "all bits": b"\xff" * 12,
}.items():
    case(f"size {_label}", header(b"f", size=_size) + b"data" + END)
    case(f"size {_label} of a directory", header(b"d", flag=b"5", size=_size) + FILE + END)
    case(f"size {_label} of a second file", FILE + header(b"g", size=_size) + bytes(5000))
    for _flag in (b"x", b"g", b"L", b"K", b"V"):
        case(f"size {_label} of {_flag.decode()}", header(b"h", flag=_flag, size=_size) + FILE + END)

for _label, _value in {
    "2^60": b"1152921504606846976",
    "2^63": b"9223372036854775808",
    "-1": b"-1",
    "of 400 digits": b"9" * 400,
    "1e3": b"1e3",
    "of other digits": "٣".encode(),
    "empty": b"",
}.items():
    case(f"PAX size {_label}", with_pax(b"size", _value))
    case(f"PAX uid {_label}", with_pax(b"uid", _value))
case("PAX size that overrides", pax(record(b"size", b"600")) + header(b"f", size=1) + bytes(1024) + END)
case("global PAX size", pax(record(b"size", b"1152921504606846976"), flag=b"g") + FILE + END)

# PAX records

for _label, _raw in {
    "length 0": b"0 path=x\n",
    "no length": b" path=x\n",
    "length beyond": b"9999 path=x\n",
    "length too short": b"3 path=x\n",
    "length of 100 digits": b"1" * 100 + b" path=x\n",
    "negative length": b"-9 path=x\n",
    "no =": b"10 path:x\n",
    "no key": b"6 =xy\n",
    "no newline": b"10 path=xyz",
    "no blank": b"10path=x\n",
    "noise": bytes(range(256)),
    "null in the key": record(b"pa\0th", b"x"),
    "null in a path": record(b"path", b"x\0y"),
    "null bytes behind": record(b"path", b"x") + bytes(200),
    "null bytes, then more": record(b"path", b"x") + bytes(9) + record(b"path", b"y"),
}.items():
    case(f"PAX record: {_label}", pax(_raw) + FILE + END)
case("20000 PAX headers in a row", lambda _: b"".join([pax(record(b"path", b"x"))] * 20_000) + FILE + END)
case(
    "20000 global headers in a row",
    lambda _: b"".join([pax(record(b"path", b"x"), flag=b"g")] * 20_000) + END,
)
case("20000 long names in a row", lambda _: b"".join([long_name(b"x")] * 20_000) + FILE + END)
case("20000 labels in a row", lambda _: b"".join([header(b"label", flag=b"V")] * 20_000) + FILE + END)
case(
    "2000 global headers between files",
    lambda _: b"".join(
        pax(record(b"SCHILY.xattr.user.%d" % n, b"x" * 2000), flag=b"g") + FILE for n in range(2000)
    ),
)
case("a PAX header of 250000 records", pax(b"5 a=\n" * 200_000) + FILE + END)
case("an extended header and nothing", pax(record(b"path", b"x")) + END)
case("a global header and nothing", pax(record(b"comment", b"x"), flag=b"g") + END)

# sparse files

for _label, _pieces, _real, _stored in [
    ("out of order", [(512, 4), (0, 4)], 1024, bytes(8)),
    ("overlapping", [(0, 8), (4, 8)], 1024, bytes(16)),
    ("beyond the end", [(1020, 8)], 1024, bytes(8)),
    ("of another sum", [(0, 8)], 1024, bytes(20)),
    ("64 MiB", [(0, 4)], 1 << 26, b"data"),
    ("2^62 bytes", [(0, 4)], base256(1 << 62, 12), b"data"),
]:
    case(f"sparse, old: {_label}", old_sparse(_pieces, _real, _stored) + END)
case("sparse, old: more to come, and nothing", old_sparse([(0, 4)], 9, b"data", more=True))
case(
    "sparse, old: maps without an end",
    old_sparse([(0, 0)] * 4, 9, b"", more=True) + (octal(0, 12) * 42 + b"\1").ljust(512, b"\0") * 20_000,
)
for _label, _text, _real in [
    ("no number", b"x\n", 9),
    ("negative", b"1\n-5\n4\n", 9),
    ("10^9 pieces", b"1000000000\n", 9),
    ("cut off", b"3\n0\n1\n", 9),
    ("a line without an end", b"1" * 5000, 9),
    ("huge numbers", b"1\n" + b"9" * 300 + b"\n1\n", 9),
    ("8 EiB", b"1\n0\n4\n", (1 << 63) - 1),
    ("out of order", b"2\n100\n2\n0\n2\n", 200),
    ("other sum", b"1\n0\n3\n", 200),
]:
    case(f"sparse, 1.0: {_label}", new_sparse(_text, _real, b"data"))
for _label, _text in [
    ("odd", b"0,1,2"),
    ("letters", b"a,b"),
    ("empty", b""),
    ("overlapping", b"0,3,1,1"),
    ("of 200000 numbers", b"0,0," * 100_000 + b"0,4"),
    ("good", b"0,2,8,2"),
]:
    case(f"sparse, 0.1: {_label}", sparse_map(_text))
case("sparse, 0.1: 8 EiB", sparse_map(b"0,4", b"9223372036854775807"))
case(
    "sparse, 0.0: lengths without places",
    pax(record(b"GNU.sparse.size", b"9"), record(b"GNU.sparse.numbytes", b"4")) + FILE + END,
)

# the frame

case("empty", b"")
case("null bytes alone", END)
case("no archive", b"this is text\n" * 100)
case("noise", bytes(range(256)) * 8)
case("wrong checksum", header(b"f", checksum=b"000001\0 ") + END)
case("wrong checksum later", FILE + header(b"f", checksum=b"000001\0 ") + END)
case("no number as checksum", header(b"f", checksum=b"abcdefgh") + END)
for _cut in (1, 200, 511, 513, 515, 1023, 1025, 1500):
    case(f"cut at {_cut}", (FILE + FILE + END)[:_cut])
case("cut in a PAX header", pax(record(b"path", b"y" * 3000))[:1000])
case("unknown type", header(b"f", flag=b"Z") + END)
case("unknown type with a size", header(b"f", flag=b"D", size=100) + bytes(512) + END)

# names

for _label, _name in {
    "empty": b"",
    "a dot": b".",
    "two dots": b"..",
    "a slash": b"/",
    "dots": b"../../../../../../../../../../tmp/out",
    "non-UTF-8": b"\xff\xfe",
    "with a line break": b"a\nb\x1b[31m",
    "blank": b" ",
    "with a backslash": b"a\\..\\b",
}.items():
    case(f"name {_label}", member(_name, b"x") + END)
    case(f"directory {_label}", header(_name, flag=b"5", mode=0o700) + END)
case("name absolute", lambda outside: member(outside.encode() + b"/file", b"x") + END)
case("name of 4000 bytes", long_name(b"n" * 4000) + FILE + END)
case("name of 4000 directories", long_name(b"n/" * 4000) + FILE + END)
case("name of 300 bytes in PAX", with_pax(b"path", b"p" * 300))
case("name of 1 MB", long_name(b"n" * 1_000_000) + FILE + END)
case("name empty and long", long_name(b"") + FILE + END)
case("PAX path with dots", lambda out: with_pax(b"path", b"../" * 40 + out.lstrip("/").encode() + b"/file"))
case("prefix with dots", member(b"file", b"x", prefix=b"../../../../../../tmp") + END)

# links


def _links(*entries: tuple[bytes, bytes, bytes]) -> bytes:
    return b"".join(header(name, flag=flag, link=link, mode=0o755) for name, flag, link in entries)


case("hard link to itself", _links((b"h", b"1", b"h")) + END)
case("hard link to a file that was there", FILE + _links((b"f", b"1", b"f")) + END)
case("hard link to nothing", _links((b"h", b"1", b"none")) + END)
case("hard link to the outside", lambda out: _links((b"h", b"1", out.encode() + b"/file")) + END)
case("hard link upwards", _links((b"h", b"1", b"../../../../../etc/passwd")) + END)
case("hard link to a directory", _links((b"d", b"5", b""), (b"h", b"1", b"d")) + END)
case("hard link with null", pax(record(b"linkpath", b"a\0b")) + _links((b"h", b"1", b"x")) + END)
case("link loop", _links((b"a", b"2", b"b"), (b"b", b"2", b"a")) + member(b"a/x", b"x") + END)
case("link to itself", _links((b"a", b"2", b"a")) + member(b"a/x", b"x") + END)
case("link without a target", _links((b"a", b"2", b"")) + END)
case("link of 4000 bytes", long_name(b"n/" * 2000, b"K") + _links((b"a", b"2", b"x")) + END)
case("link of 1 MB", long_name(b"n" * 1_000_000, b"K") + _links((b"a", b"2", b"x")) + END)
case("through a link", lambda out: _links((b"l", b"2", out.encode())) + member(b"l/file", b"x") + END)
case("up a link", _links((b"l", b"2", b"../../../../../..")) + member(b"l/tmp/escaped", b"x") + END)
case("a link to /proc", _links((b"l", b"2", b"/proc/self/root")) + member(b"l/tmp/escaped", b"x") + END)
case(
    "200 links to each other",
    b"".join(_links((b"l%d" % n, b"2", b"l%d/l%d" % (n + 1, n + 1))) for n in range(200))
    + member(b"l0/x", b"x")
    + END,
)
case("a file as directory", FILE + member(b"f/x", b"x") + END)

# whiteouts

for _name in (
    b".wh.",
    b".wh..",
    b".wh...",
    b".wh..wh.",
    b".wh..wh..opq",
    b".wh..wh.plnk",
    b".wh.f",
    b".wh.none",
):
    case(f"whiteout {_name.decode()}", FILE + member(_name) + END)
    case(
        f"whiteout {_name.decode()} as a directory", FILE + header(_name + b"/", flag=b"5", mode=0o755) + END
    )
    case(f"whiteout {_name.decode()} with something in it", FILE + member(_name + b"/x", b"x") + END)
    case(
        f"whiteout {_name.decode()} below", header(b"d/", flag=b"5", mode=0o755) + member(b"d/" + _name) + END
    )
case("whiteout through a link", lambda out: _links((b"l", b"2", out.encode())) + member(b"l/.wh.file") + END)
case(
    "opaque through a link", lambda out: _links((b"l", b"2", out.encode())) + member(b"l/.wh..wh..opq") + END
)
case("whiteout as a device", header(b"f", flag=b"3", device=(0, 0)) + END)
case("whiteout as a device, later", FILE + header(b"f", flag=b"3", device=(0, 0)) + END)

# what a file has

case("device of disk", header(b"f", flag=b"4", device=(254, 0)) + END)
case("device of huge numbers", header(b"f", flag=b"3", device=base256(1 << 40, 8) + base256(-1, 8)) + END)
case("setuid", member(b"f", b"x", mode=0o6777) + END)
case("mode 2^30", member(b"f", b"x", mode=base256(1 << 30, 8)) + END)
case("mode negative", member(b"f", b"x", mode=base256(-1, 8)) + END)
for _label, _number in {
    "2^40": 1 << 40,
    "-1": -1,
    "-2": -2,
    "2^32-1": (1 << 32) - 1,
    "2^31": 1 << 31,
}.items():
    case(f"uid {_label}", member(b"f", b"x", uid=base256(_number, 8)) + END)
for _label, _number in {
    "2^62": 1 << 62,
    "2^70": 1 << 70,
    "-1": -1,
    "-2^62": -(1 << 62),
    "-2^70": -(1 << 70),
}.items():
    case(f"mtime {_label}", member(b"f", b"x", mtime=base256(_number, 12)) + END)
    case(f"mtime {_label} of a directory", header(b"d", flag=b"5", mtime=base256(_number, 12)) + END)
for _value in (
    b"nan",
    b"inf",
    b"1e400",
    b"-1.5",
    b"1" * 300,
    b"1.2.3",
    b"",
    b"0x10",
    b"1_0",
    b"99999999999999999999",
):
    case(f"PAX mtime {_value[:20].decode()} of {len(_value)}", with_pax(b"mtime", _value))
for _key, _value in {
    b"user.ok": b"x",
    b"user.": b"x",
    b"": b"x",
    b"nothing.here": b"x",
    b"user." + b"n" * 300: b"x",
    b"user.large": b"x" * 200_000,
    b"trusted.overlay.opaque": b"y",
    b"trusted.overlay.redirect": b"/etc",
    b"trusted.any": b"x",
    b"user.overlay.opaque": b"y",
    b"user.overlay.whiteout": b"y",
    b"security.capability": b"broken",
    b"security.selinux": b"x",
    b"system.posix_acl_access": b"broken",
    b"user.\xff": b"\xff\0",
}.items():
    _label = f"{_key[:30].decode('utf-8', 'backslashreplace')} of {len(_value)}"
    case(f"xattr {_label}", with_pax(b"SCHILY.xattr." + _key, _value))
    case(
        f"xattr {_label} of a directory",
        pax(record(b"SCHILY.xattr." + _key, _value)) + header(b"d", flag=b"5", mode=0o755) + END,
    )
case(
    "overlay whiteout by attribute",
    pax(record(b"SCHILY.xattr.trusted.overlay.whiteout", b"y")) + member(b"f") + END,
)
case("a first file called BZh", member(b"BZh91AY&SY", b"x") + END)
case("a first file called gzip", member(b"\x1f\x8b\x08", b"x") + END)
case("a first file called zstd", member(b"\x28\xb5\x2f\xfd", b"x") + END)
case("1000 directories deep", b"".join(directories(1000)) + END)


# large ones

GIB = 1 << 30


def _zeros(count: int) -> Iterator[bytes]:
    piece = bytes(1 << 20)
    while count:
        part = min(count, len(piece))
        yield piece[:part]
        count -= part


def _large_header(flag: bytes) -> Iterator[bytes]:
    yield header(b"h", flag=flag, size=GIB)
    yield from _zeros(GIB)
    yield FILE + END


def _chain() -> Iterator[bytes]:
    piece = pax(record(b"comment", b"x" * 1_000_000))
    for _ in range(300):
        yield piece
    yield FILE + END


def _deep() -> Iterator[bytes]:
    """5 000 directories: a path that long can't be named, so links lead from one part into the next."""
    path = b"d/" * 1000
    for part in range(5):
        at = b"" if not part else b"l%d/" % part
        for depth in range(1, 1001):
            name = at + b"d/" * depth
            yield long_name(name) + header(name, flag=b"5", mode=0o755)
        target = at + path
        yield long_name(target, b"K") + header(b"l%d" % (part + 1), flag=b"2", link=b"x", mode=0o777)
    yield member(b"l5/f", b"deep") + END


def many(count: int) -> Iterator[bytes]:
    """So many empty files, a thousand in a directory."""
    for first in range(0, count, 1000):
        yield header(b"d%d/" % (first // 1000), flag=b"5", mode=0o755)
        yield b"".join(header(b"d%d/file%d" % (first // 1000, n)) for n in range(first, first + 1000))
    yield END


BIG: dict[str, Callable[[], Iterator[bytes]]] = {
    "PAX header of 1 GiB": lambda: _large_header(b"x"),
    "global header of 1 GiB": lambda: _large_header(b"g"),
    "long name of 1 GiB": lambda: _large_header(b"L"),
    "long link of 1 GiB": lambda: _large_header(b"K"),
    "300 PAX headers of 1 MB": _chain,
    "1 GiB of null bytes behind the end": lambda: iter((FILE + END, *_zeros(GIB))),
    "5000 directories deep": _deep,
}


def compressed(parts: Iterable[bytes], name: str) -> Iterator[bytes]:
    """In pieces; ``name`` as in :func:`buildfront.image.compression.kind`."""
    if name == "plain":
        yield from parts
        return
    if name == "gzip":
        tool = igzip.compressobj(0, 8, 31) if hasattr(igzip, "compressobj") else None
        if tool is None:
            import zlib

            tool = zlib.compressobj(1, zlib.DEFLATED, 31)
    elif name == "zstd":
        tool = zstandard.ZstdCompressor(1).compressobj()
    elif name == "xz":
        tool = lzma.LZMACompressor(preset=0)
    else:
        tool = bz2.BZ2Compressor(1)
    for part in parts:
        yield tool.compress(part)
    yield tool.flush()


COMPRESSIONS = ("plain", "gzip", "zstd", "xz", "bzip2")


# compressed streams that mean harm themselves


def zstd_frame(window_log: int, blocks: bytes) -> bytes:
    """A frame that wants ``2 ** window_log`` bytes of memory."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + blocks


def zstd_zeros(count: int, window_log: int = 17) -> bytes:
    """A frame of ``count`` times 128 KiB of null bytes, four bytes each."""
    rle = (128 << 10) << 3 | 1 << 1
    blocks = struct.pack("<I", rle)[:3] + b"\0"
    return zstd_frame(window_log, blocks * (count - 1) + struct.pack("<I", rle | 1)[:3] + b"\0")


def xz_of_a_large_dictionary(data: bytes) -> bytes:
    """One that wants 1.5 GB of memory."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 16}]
    raw = bytearray(lzma.compress(data, filters=filters))
    # Block header: size, flags, filter ID 0x21, one byte of properties, the dictionary's size (xz file format 5.3.1).
    at = 12
    assert raw[at + 2] == 0x21
    raw[at + 4] = 40 - 3
    size = (raw[at] + 1) * 4
    import zlib

    raw[at + size - 4 : at + size] = zlib.crc32(bytes(raw[at : at + size - 4])).to_bytes(4, "little")
    return bytes(raw)


TAR = FILE + END
STREAMS: dict[str, bytes] = {
    "zstd that wants 2 GiB": zstd_frame(31, bytes(3000)),
    "zstd that wants 128 GiB": zstd_frame(37, bytes(3000)),
    "zstd cut off": zstandard.compress(TAR)[:-3],
    "zstd of an impossible block": zstd_frame(20, b"\xff\xff\xff" + bytes(3000)),
    "zstd of 2 GiB of null bytes": zstd_zeros(1 << 14),
    "zstd, a frame to skip that is cut off": b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(1000),
    "zstd, a tar, then a frame to skip": zstandard.compress(TAR) + b"\x5f\x2a\x4d\x18\x04\0\0\0data",
    "zstd, a tar, then noise": zstandard.compress(TAR) + b"noise",
    "zstd, a tar in two frames": zstandard.compress(TAR[:700]) + zstandard.compress(TAR[700:]),
    "xz that wants 1.5 GB": xz_of_a_large_dictionary(TAR),
    "xz cut off": lzma.compress(TAR)[:-9],
    "xz, then padding": lzma.compress(TAR) + bytes(8),
    "xz, then noise": lzma.compress(TAR) + b"noise",
    "bzip2 cut off": bz2.compress(TAR)[:-5],
    "bzip2 of noise": b"BZh9" + bytes(range(256)) * 8,
    "gzip cut off": igzip.compress(TAR)[:-6],
    "gzip of noise": b"\x1f\x8b\x08\0" + bytes(range(256)) * 8,
    "gzip with a wrong checksum": igzip.compress(TAR)[:-8] + bytes(8),
    "gzip, then padding": igzip.compress(TAR) + bytes(600),
    "gzip, then noise": igzip.compress(TAR) + b"noise",
    "gzip, a tar in two members": igzip.compress(TAR[:700]) + igzip.compress(TAR[700:]),
}
