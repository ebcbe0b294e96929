"""Entries of a directory tree written as a tar, in the PAX format, with PAX headers only if an entry needs them.

Equal entries give equal tars, byte for byte those that Python's own tarfile writes.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterable
from typing import IO

from ..errors import BuildError
from .diff import LATER, Entry, at, has_acl, xattrs
from .layer_apply import WHITEOUT
from .tar_header import BLOCK, XATTR
from .tar_reader import EXTENDED_LIMIT, shown
from .trees import Directories


def write_tar(
    entries: Iterable[Entry], root: int, out: IO[bytes], left_out: Callable[[str], None] = lambda path: None
) -> int:
    """Write ``entries`` of the tree under the directory descriptor ``root``, and return their number.

    Times are whole seconds, rounded down as GNU tar and Go do. ``left_out`` is told the paths of files whose access
    control lists are not kept.
    """
    links: dict[int, str] = {}
    count = 0
    with Directories(root) as directories:
        for entry in entries:
            count += 1
            head, name = posixpath.split(entry.path)
            if entry.status is None:
                out.write(header(posixpath.join(head, WHITEOUT + name), b"0"))
                continue
            parent = directories.open(head)
            name = name or "."  # the top itself
            status = entry.status
            if status is LATER:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if has_acl(at(parent, name)):
                left_out("/" + entry.path)
            _write_entry(entry.path, name, status, parent, out, links)
    out.write(b"\0" * (2 * BLOCK))
    return count


def header(
    path: str,
    flag: bytes,
    *,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: str = "",
    device: int | None = None,
    attributes: dict[str, bytes] | None = None,
) -> bytes:
    """Return the header of an entry, behind a PAX header if a plain one can't express it.

    Raise BuildError if the attributes are too large for one.
    """
    records = {XATTR + _raw(key): value for key, value in (attributes or {}).items()}
    for key, text in ((b"path", path), (b"linkpath", link)):
        if not text.isascii() or len(text) > 100:
            records[key] = _raw(text)
    numbers = []
    for key, value, digits in (
        (b"uid", uid, 7),
        (b"gid", gid, 7),
        (b"size", size, 11),
        (b"mtime", mtime, 11),
    ):
        if 0 <= value < 8**digits:
            numbers.append(b"%0*o\0" % (digits, value))
        else:
            records[key] = b"%d" % value
            numbers.append(b"%0*o\0" % (digits, 0))
    nodes = bytes(16) if device is None else b"%07o\0%07o\0" % (os.major(device), os.minor(device))
    name, target = (text.encode("ascii", "replace") for text in (path, link))
    plain = _plain(name, b"%07o\0" % (mode & 0o7777) + b"".join(numbers), flag, target, nodes)
    if not records:
        return plain
    data = _records(records)
    if len(data) > EXTENDED_LIMIT:
        raise BuildError(f"{shown(path)} has extended attributes of {len(data)} bytes, too many for a layer")
    lengths = b"0000000\0" * 3 + b"%011o\0%011o\0" % (len(data), 0)
    return _plain(b"././@PaxHeader", lengths, b"x", b"", bytes(16)) + data + bytes(-len(data) % BLOCK) + plain


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _plain(name: bytes, numbers: bytes, flag: bytes, link: bytes, nodes: bytes) -> bytes:
    before = name[:100].ljust(100, b"\0") + numbers
    after = b"%b%b%b%b%b" % (flag, link[:100].ljust(100, b"\0"), b"ustar\x0000", bytes(64), nodes)
    total = sum(before) + 8 * 32 + sum(after)
    return (before + b"%06o\0 " % total + after).ljust(BLOCK, b"\0")


def _records(values: dict[bytes, bytes]) -> bytes:
    out = []
    for value in values.values():
        try:
            value.decode()
        except UnicodeDecodeError:
            out.append(b"21 hdrcharset=BINARY\n")
            break
    for key, value in values.items():
        length = rest = len(key) + len(value) + 3
        while (now := rest + len(b"%d" % length)) != length:
            length = now
        out.append(b"%d %b=%b\n" % (length, key, value))
    return b"".join(out)


def _write_entry(
    path: str, name: str, status: os.stat_result, parent: int, out: IO[bytes], links: dict[int, str]
) -> None:
    kind = status.st_mode
    regular = stat.S_ISREG(kind)
    flag, link, size, device = b"0", "", 0, None
    first = path
    if regular and status.st_nlink > 1:
        first = links.setdefault(status.st_ino, path)  # a tree of ours is on one filesystem
    if first is not path:
        flag, link = b"1", first
    elif regular:
        size = status.st_size
    elif stat.S_ISDIR(kind):
        flag, path = b"5", f"{path or '.'}/"
    elif stat.S_ISLNK(kind):
        flag, link = b"2", os.readlink(name, dir_fd=parent)
    elif stat.S_ISFIFO(kind):
        flag = b"6"
    elif stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
        flag, device = b"3" if stat.S_ISCHR(kind) else b"4", status.st_rdev
    else:
        return  # a socket: tar has no word for it, and it means nothing without its server
    out.write(
        header(
            path,
            flag,
            mode=kind,
            uid=status.st_uid,
            gid=status.st_gid,
            size=size,
            mtime=status.st_mtime_ns // 1_000_000_000,
            link=link,
            device=device,
            attributes=xattrs(at(parent, name)) if flag != b"1" else None,
        )
    )
    if regular and flag == b"0":
        _write_content(path, name, size, parent, out)


def _write_content(path: str, name: str, size: int, parent: int, out: IO[bytes]) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        left = size
        while left:
            chunk = os.read(fd, min(left, 1 << 20))
            if not chunk:
                raise OSError(f"{path} became shorter while it was read")
            out.write(chunk)
            left -= len(chunk)
    finally:
        os.close(fd)
    out.write(b"\0" * (-size % BLOCK))
