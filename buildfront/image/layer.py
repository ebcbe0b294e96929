"""Layers as tar: entries written out, tars applied to a root filesystem (OCI image spec, layer.md).

Written tars are equal for equal entries. Applying trusts nothing in the tar: every path is resolved inside
the root filesystem, and what the tar would put in the way of a later entry can't lead outside.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Iterable
from typing import IO

from run_step import Root, is_machine_root

from ..errors import BuildError
from .diff import Entry, at, xattrs
from .owner import own

WHITEOUT = ".wh."
OPAQUE_MARKER = ".wh..wh..opq"
_BLOCK = 512
_XATTR = "SCHILY.xattr."
_NOT_OURS = (_XATTR + "trusted.", _XATTR + "user.overlay.")
"""Attributes that mean something to an overlay: no image may write them."""


class _Member(tarfile.TarInfo):
    """A header that is damaged or cut off after the first entry is an error; tarfile takes it for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


def write_tar(entries: Iterable[Entry], root: int, out: IO[bytes]) -> int:
    """Write ``entries`` of the tree under the directory descriptor ``root``; returns how many there were."""
    links: dict[tuple[int, int], str] = {}
    count = 0
    for entry in entries:
        count += 1
        if entry.status is None:
            head, name = posixpath.split(entry.path)
            info = tarfile.TarInfo(posixpath.join(head, WHITEOUT + name))
            info.mode = 0
            _header(out, info)
        else:
            _write_entry(entry.path, entry.status, root, out, links)
    out.write(b"\0" * (2 * _BLOCK))
    return count


def _header(out: IO[bytes], info: tarfile.TarInfo) -> None:
    out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


def _write_entry(
    path: str, status: os.stat_result, root: int, out: IO[bytes], links: dict[tuple[int, int], str]
) -> None:
    head, name = posixpath.split(path)
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = _descend(root, head, flags)
    try:
        info = tarfile.TarInfo(path)
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid, info.mtime = status.st_uid, status.st_gid, int(status.st_mtime)
        kind = status.st_mode
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISREG(kind) and status.st_nlink > 1 and identity in links:
            info.type, info.linkname = tarfile.LNKTYPE, links[identity]
            _header(out, info)
            return
        links[identity] = path
        info.pax_headers = {
            _XATTR + key: value.decode("utf-8", "surrogateescape")
            for key, value in xattrs(at(parent, name)).items()
        }
        if stat.S_ISREG(kind):
            info.size = status.st_size
            _header(out, info)
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            with os.fdopen(fd, "rb", buffering=0) as stream:
                left = info.size
                while left:
                    chunk = stream.read(min(left, 1 << 20))
                    if not chunk:
                        raise OSError(f"{path} became shorter while it was read")
                    out.write(chunk)
                    left -= len(chunk)
            out.write(b"\0" * (-info.size % _BLOCK))
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
    finally:
        os.close(parent)


def _descend(root: int, path: str, flags: int) -> int:
    fd = os.dup(root)
    for part in path.split("/") if path else ():
        try:
            inner = os.open(part, flags, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


class Applier:
    """Applies one tar to a root filesystem.

    ``whiteouts``: read ``.wh.`` names as removals, as in a layer. ``base``: the directory that the tar's paths
    count from. ``owner``: give everything to this (uid, gid) instead of what the tar says.
    """

    def __init__(
        self, root: Root, *, base: str = "/", whiteouts: bool = True, owner: tuple[int, int] | None = None
    ) -> None:
        self.root = root
        self.base = base
        self.whiteouts = whiteouts
        self.owner = owner
        self.written: set[str] = set()
        self.directories: dict[str, int] = {}

    def apply(self, stream: IO[bytes]) -> None:
        """Raises BuildError for a tar that is cut off or names something impossible."""
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", tarinfo=_Member, encoding="utf-8", errors="surrogateescape"
            ) as tar:
                for member in tar:
                    try:
                        self._member(tar, member)
                    except OSError as error:
                        raise BuildError(
                            f"the tar entry {member.name!r} can't be unpacked: {error.strerror or error}"
                        ) from None
                    except (ValueError, OverflowError) as error:  # numbers and names that no file can have
                        raise BuildError(f"the tar entry {member.name!r} is impossible: {error}") from None
                    tar.members.clear()  # type: ignore[attr-defined] # the list would grow with the archive, and nothing reads it
            while stream.read(1 << 16):
                pass  # to the very end, so that a digest over the stream is a digest over all of it
        except (tarfile.TarError, EOFError, RecursionError) as error:
            raise BuildError(f"the tar archive is damaged or cut off: {error}") from None
        for path, mtime in sorted(self.directories.items(), reverse=True):
            with self.root.parent(path) as (fd, name):
                try:
                    os.utime(name, (mtime, mtime), dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OverflowError as error:
                    raise BuildError(f"the tar entry {path!r} is impossible: {error}") from None

    def _member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = posixpath.normpath(
            posixpath.join("/", self.base, posixpath.normpath("/" + member.name).lstrip("/"))
        )
        path = "/" + path.lstrip("/")
        name = posixpath.basename(path)
        if self.whiteouts and name.startswith(WHITEOUT):
            self._whiteout(path, name)
            return
        if path == "/":
            if member.isdir():
                self._attributes(member, self.root.fd, ".", True)
            return
        if path == self.base and member.isdir() and (fd := self._directory_at(path)) is not None:
            try:  # the place to unpack into, and where a link of the image leads to it, that stays
                self._attributes(member, fd, ".", True)
            finally:
                os.close(fd)
            return
        head = posixpath.dirname(path)
        if self.root.stat(head) is None:
            owner = self.owner or (0, 0)
            self.root.make_dirs(head, 0o755, *owner)
        with self.root.parent(path) as (fd, name):
            keep_dir = member.isdir() and self._is_real_dir(fd, name)
            if not keep_dir:
                remove(fd, name)
                if path in self.directories:
                    self._forget(path)
                if not self._create(tar, member, fd, name):
                    return
            if not member.islnk():
                self._attributes(member, fd, name, member.isdir())
        if member.isdir():
            self.directories[path] = int(member.mtime)
        while path not in self.written and path != "/":
            self.written.add(path)
            path = posixpath.dirname(path)

    def _directory_at(self, path: str) -> int | None:
        try:
            return self.root.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _forget(self, path: str) -> None:
        """A directory of this tar was replaced: its times, and those of what was in it, are of no use."""
        gone = [item for item in self.directories if item == path or item.startswith(path + "/")]
        for item in gone:
            del self.directories[item]

    def _is_real_dir(self, fd: int, name: str) -> bool:
        try:
            return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _whiteout(self, path: str, name: str) -> None:
        head = posixpath.dirname(path)
        if name == OPAQUE_MARKER:
            try:
                fd = self.root.open(head, os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                return
            try:
                self._hide(fd, head)
            finally:
                os.close(fd)
            return
        victim = name.removeprefix(WHITEOUT)
        if victim in ("", ".", ".."):
            raise BuildError(f"the layer has an impossible whiteout {path!r}")
        if posixpath.join(head, victim) in self.written:
            return  # a whiteout is about the layers below
        try:
            with self.root.parent(posixpath.join(head, victim)) as (fd, last):
                remove(fd, last)
        except (FileNotFoundError, NotADirectoryError):
            return

    def _hide(self, fd: int, path: str) -> None:
        """Remove what an open directory has from the layers below, at every depth."""
        for child in os.listdir(fd):
            inner = posixpath.join(path, child)
            if inner not in self.written:
                remove(fd, child)
            elif self._is_real_dir(fd, child):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(child, flags, dir_fd=fd)
                try:
                    self._hide(below, inner)
                finally:
                    os.close(below)

    def _create(self, tar: tarfile.TarFile, member: tarfile.TarInfo, fd: int, name: str) -> bool:
        """False for a device node in a user namespace, where there can be none: it is left out."""
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=fd)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=fd)
        elif member.islnk():
            source = posixpath.join("/", self.base, member.linkname.lstrip("/"))
            try:
                with self.root.parent(source) as (other, original):
                    os.link(original, name, src_dir_fd=other, dst_dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                raise BuildError(
                    f"the tar has a hard link {member.name!r} to {member.linkname!r}: {error.strerror}"
                ) from None
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=fd)
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            try:
                os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=fd)
            except PermissionError:
                if is_machine_root():
                    raise
                return False
        elif member.isreg():
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, 0o600, dir_fd=fd), "wb") as out:
                source_stream = tar.extractfile(member)
                if source_stream is not None:
                    shutil.copyfileobj(source_stream, out, 1 << 20)
                written = out.tell()
            if written != member.size:
                raise BuildError(f"the tar archive is cut off in {member.name!r}")
        else:
            raise BuildError(f"the tar has an entry of unknown type {member.type!r}: {member.name!r}")
        return True

    def _attributes(self, member: tarfile.TarInfo, fd: int, name: str, directory: bool) -> None:
        uid, gid = self.owner or (member.uid, member.gid)
        own(name, uid, gid, dir_fd=fd, shown=f"the tar entry {member.name!r}")
        if not member.issym():
            # The entry was just made here (or is a real directory), so it is no link that could be followed.
            os.chmod(at(fd, name), member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            if key.startswith(_XATTR) and not key.startswith(_NOT_OURS):
                raw = value.encode("utf-8", "surrogateescape")
                try:
                    os.setxattr(at(fd, name), key.removeprefix(_XATTR), raw, follow_symlinks=False)
                except OSError as error:
                    if not key.startswith(_XATTR + "security."):
                        raise BuildError(f"{member.name}: {key}: {error.strerror}") from None
        if not directory:
            os.utime(name, (int(member.mtime), int(member.mtime)), dir_fd=fd, follow_symlinks=False)


def remove(fd: int, name: str) -> None:
    """Remove an entry of an open directory, whatever it is; nothing happens when it is not there."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(name, dir_fd=fd)
