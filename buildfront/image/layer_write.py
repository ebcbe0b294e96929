"""Entries of a directory tree written as a tar. Written tars are equal for equal entries."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterable
from typing import IO

from .diff import LATER, Entry, at, xattrs
from .layer_apply import WHITEOUT
from .tar_header import BLOCK, XATTR
from .trees import Directories

_XATTR = XATTR.decode()


def write_tar(entries: Iterable[Entry], root: int, out: IO[bytes]) -> int:
    """Write ``entries`` of the tree under the directory descriptor ``root``; returns how many there were."""
    links: dict[int, str] = {}
    count = 0
    with Directories(root) as directories:
        for entry in entries:
            count += 1
            head, name = posixpath.split(entry.path)
            if entry.status is None:
                info = tarfile.TarInfo(posixpath.join(head, WHITEOUT + name))
                info.mode = 0
                _header(out, info)
                continue
            parent = directories.open(head)
            status = entry.status
            if status is LATER:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            _write_entry(entry.path, name, status, parent, out, links)
    out.write(b"\0" * (2 * BLOCK))
    return count


def _header(out: IO[bytes], info: tarfile.TarInfo) -> None:
    out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


def _write_entry(
    path: str, name: str, status: os.stat_result, parent: int, out: IO[bytes], links: dict[int, str]
) -> None:
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid, info.mtime = status.st_uid, status.st_gid, int(status.st_mtime)
    kind = status.st_mode
    if stat.S_ISREG(kind) and status.st_nlink > 1:
        first = links.setdefault(status.st_ino, path)  # a tree of ours is on one filesystem
        if first is not path:
            info.type, info.linkname = tarfile.LNKTYPE, first
            _header(out, info)
            return
    info.pax_headers = {
        _XATTR + key: value.decode("utf-8", "surrogateescape")
        for key, value in xattrs(at(parent, name)).items()
    }
    if stat.S_ISREG(kind):
        info.size = status.st_size
        _header(out, info)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            left = info.size
            while left:
                chunk = os.read(fd, min(left, 1 << 20))
                if not chunk:
                    raise OSError(f"{path} became shorter while it was read")
                out.write(chunk)
                left -= len(chunk)
        finally:
            os.close(fd)
        out.write(b"\0" * (-info.size % BLOCK))
        return
    if stat.S_ISDIR(kind):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(kind):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
    elif stat.S_ISFIFO(kind):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(kind) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    else:
        return  # a socket: tar has no word for it, and it means nothing without its server
    _header(out, info)
