"""Tars applied to a root filesystem.

Nothing in the tar is trusted: every path is resolved inside the root filesystem, and what the tar would put in the
way of a later entry can't lead outside. A few bytes are remembered of each entry that has passed, so that
a million of them need no memory to speak of.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import Any

from run_step import Root, is_machine_root

from .diff import at
from .owner import own
from .tar_header import ArchiveError
from .tar_reader import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    Member,
    TarReader,
    shown,
)
from .trees import DIRECTORY as OPEN_DIRECTORY
from .trees import Marks, remove

WHITEOUT = ".wh."
OPAQUE_MARKER = ".wh..wh..opq"
_AUFS = ".wh..wh."
"""The beginning of names that aufs used itself, and that old layers still have: they mean nothing."""
_NOT_OURS = ("trusted.", "user.overlay.")
"""Attributes with a meaning for overlayfs: no image may set them."""
_PATH = os.O_PATH | os.O_DIRECTORY
_MAX = (1 << 63) - 1
_NO_ID = (1 << 32) - 1  # (uid_t) -1, which chown(2) takes for "as it is"


class Applier:
    """Applies one tar to a root filesystem, which must not be changed by others meanwhile.

    ``whiteouts``: read ``.wh.`` names as removals, as in a layer. ``owner``: give everything to this (uid, gid)
    instead of what the tar says.
    """

    def __init__(self, root: Root, *, whiteouts: bool = True, owner: tuple[int, int] | None = None) -> None:
        self.root = root
        self.whiteouts = whiteouts
        self.owner = owner
        self._written = Marks()
        """Hashes of the paths that this tar wrote, and of those above them; only whiteouts need them."""
        self._hidden: set[str] = set()
        self._timed = Marks()
        """Inodes of the directories whose times come from this tar."""
        self._head = ""
        self._fd = -1
        self._stamp: int | None = None

    def apply(self, stream: Any) -> None:
        """Apply a tar. Raise BuildError if it is damaged, cut off, or names something impossible."""
        reader = TarReader(stream)
        try:
            for member in reader:
                try:
                    self._member(reader, member)
                except OSError as error:
                    raise ArchiveError(
                        f"the tar entry {shown(member.name)} can't be unpacked: {error.strerror or error}"
                    ) from None
                except (ValueError, OverflowError) as error:  # numbers and names that no file can have
                    raise ArchiveError(f"the tar entry {shown(member.name)} is impossible: {error}") from None
            self._leave()
            reader.drain()
        except EOFError as error:  # compressed streams raise it
            raise ArchiveError(f"the tar archive is damaged or cut off: {error}") from None
        except OSError as error:
            raise ArchiveError(f"the tar archive can't be read: {error.strerror or error}") from None
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd, self._head = -1, ""

    # the directory that entries go to, open as long as they come one after the other

    def _enter(self, head: str) -> int:
        if head == self._head:
            return self._fd
        self._leave()
        try:
            fd = self.root.open(head, _PATH)
        except FileNotFoundError:
            self._make_parents(head)
            fd = self.root.open(head, _PATH)
        self._head, self._fd, self._stamp = head, fd, self._stamp_of(fd)
        return fd

    def _stamp_of(self, fd: int) -> int | None:
        """Return the time that an open directory has from this tar, if it has one."""
        status = os.fstat(fd)
        return status.st_mtime_ns if status.st_ino & _MAX in self._timed else None

    def _leave(self) -> None:
        """Set the time of the directory again: new entries in it have changed it."""
        if self._fd < 0:
            return
        try:
            if self._stamp is not None:
                os.utime(f"/proc/self/fd/{self._fd}", ns=(self._stamp, self._stamp))
        finally:
            os.close(self._fd)
            self._fd, self._head = -1, ""

    def _make_parents(self, head: str) -> None:
        """Make the directories that have no entries in the tar."""
        above = head
        while self.root.stat(above) is None and above != "/":
            above = posixpath.dirname(above)
        fd = self.root.open(above, _PATH)
        try:
            stamp = self._stamp_of(fd) if stat.S_ISDIR(os.fstat(fd).st_mode) else None
            self.root.make_dirs(head, 0o755, *self._implied_owner())
            if stamp is not None:
                os.utime(f"/proc/self/fd/{fd}", ns=(stamp, stamp))
        finally:
            os.close(fd)

    def _implied_owner(self) -> tuple[int, int]:
        """Return the owner of directories that have no entries."""
        return self.owner or (0, 0)

    # entries

    def _top(self, member: Member) -> None:
        """Apply the entry of the directory that the tar is unpacked into."""
        self._attributes(member, self.root.fd, ".")

    def _member(self, reader: TarReader, member: Member) -> None:
        path = "/" + posixpath.normpath("/" + member.name).lstrip("/")
        head, name = posixpath.split(path)
        directory = member.kind is DIRECTORY
        if self.whiteouts and WHITEOUT in path:
            if f"/{_AUFS}" in head:
                return
            if f"/{WHITEOUT}" in head:
                raise ArchiveError(f"the layer has an entry below a whiteout: {shown(path)}")
            if name.startswith(WHITEOUT):
                self._whiteout(head, name)
                return
        if path == "/":
            if directory:
                self._top(member)
            return
        fd = self._enter(head)
        there = self._lstat(fd, name)
        if not (directory and there is not None and stat.S_ISDIR(there.st_mode)):
            if there is not None:
                remove(fd, name)
                if stat.S_ISDIR(there.st_mode) or stat.S_ISLNK(there.st_mode):
                    self._head = ""  # perhaps the way here led over it
            if not self._create(reader, member, fd, name):
                return
        if directory:
            self._attributes(member, fd, name)
            os.utime(name, ns=_times(member), dir_fd=fd, follow_symlinks=False)
            self._timed.add(os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino & _MAX)
        if self.whiteouts:
            self._mark(path)

    def _mark(self, path: str) -> None:
        written = self._written
        while path != "/" and not written.recent(value := hash(path)):
            written.add(value)
            path = posixpath.dirname(path)

    def _directory_at(self, path: str) -> int | None:
        try:
            return self.root.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _lstat(self, fd: int, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _create(self, reader: TarReader, member: Member, fd: int, name: str) -> bool:
        """Make the entry, with its attributes unless it is a directory.

        Return false for a device node in a user namespace, where it can't be made: it is left out.
        """
        kind = member.kind
        if kind is FILE:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            out = os.open(name, flags, 0o600, dir_fd=fd)
            try:
                reader.copy_to(out)
                self._file_attributes(member, out)
            finally:
                os.close(out)
            return True
        if kind is DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=fd)
            return True
        if kind is HARD_LINK:
            self._link(member, fd, name)
            return True
        if kind is SYMLINK:
            os.symlink(member.link, name, dir_fd=fd)
        elif kind is FIFO:
            os.mkfifo(name, 0o600, dir_fd=fd)
        elif kind in (CHARACTER, BLOCK_DEVICE):
            if kind is CHARACTER and member.device == (0, 0):
                raise ArchiveError(
                    f"the tar has a character device 0:0, which overlays take for a removal: {shown(member.name)}"
                )
            mode = stat.S_IFCHR if kind is CHARACTER else stat.S_IFBLK
            try:
                os.mknod(name, mode | 0o600, os.makedev(*member.device), dir_fd=fd)
            except PermissionError:
                if is_machine_root():
                    raise
                return False
        else:
            raise ArchiveError(f"the tar has an entry of unknown type {member.flag!r}: {shown(member.name)}")
        self._attributes(member, fd, name)
        os.utime(name, ns=_times(member), dir_fd=fd, follow_symlinks=False)
        return True

    def _link(self, member: Member, fd: int, name: str) -> None:
        try:
            with self.root.parent(member.link) as (other, original):
                os.link(original, name, src_dir_fd=other, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            what = f"the tar has a hard link {shown(member.name)} to {shown(member.link)}: {error.strerror}"
            raise ArchiveError(what) from None

    # attributes

    def _owner(self, member: Member) -> tuple[int, int]:
        if self.owner is not None:
            return self.owner
        if not (0 <= member.uid < _NO_ID and 0 <= member.gid < _NO_ID):
            raise ValueError(f"no file can belong to {member.uid}:{member.gid}")
        return member.uid, member.gid

    def _file_attributes(self, member: Member, fd: int) -> None:
        own(fd, *self._owner(member), shown=f"the tar entry {shown(member.name)}")
        os.fchmod(fd, member.mode & 0o7777)
        if member.xattrs:
            self._xattrs(member, fd)
        os.utime(fd, ns=_times(member))

    def _attributes(self, member: Member, fd: int, name: str) -> None:
        own(name, *self._owner(member), dir_fd=fd, shown=f"the tar entry {shown(member.name)}")
        if member.kind is not SYMLINK:
            # The entry was just made here (or is a real directory), so it is not a link that could be followed.
            os.chmod(at(fd, name), member.mode & 0o7777)
        if member.xattrs:
            self._xattrs(member, at(fd, name))

    def _xattrs(self, member: Member, place: str | int) -> None:
        for key, value in member.xattrs.items():
            if key.startswith(_NOT_OURS):
                continue
            try:
                if isinstance(place, int):
                    os.setxattr(place, key, value)
                else:
                    os.setxattr(place, key, value, follow_symlinks=False)
            except OSError as error:
                if not key.startswith("security."):
                    raise ArchiveError(
                        f"the tar entry {shown(member.name)} has an attribute {shown(key)} that can't be set: "
                        f"{error.strerror}"
                    ) from None

    # whiteouts

    def _whiteout(self, head: str, name: str) -> None:
        if name == OPAQUE_MARKER:
            if head not in self._hidden:
                if len(self._hidden) < 10_000:
                    self._hidden.add(head)  # a second marker would find nothing more
                self._hide(head)
            return
        if name.startswith(_AUFS):
            return
        victim = name.removeprefix(WHITEOUT)
        path = posixpath.join(head, victim)
        if victim in ("", ".", ".."):
            raise ArchiveError(f"the layer has an impossible whiteout {shown(posixpath.join(head, name))}")
        if hash(path) in self._written:
            return  # a whiteout is about the layers below
        if self.root.stat(head) is None:
            return
        try:
            fd = self._enter(head)
            remove(fd, victim)
        except (FileNotFoundError, NotADirectoryError):
            return
        self._head = ""  # perhaps the way here led over it

    def _hide(self, head: str) -> None:
        """Remove the entries that a directory has from the layers below, at every depth."""
        self._leave()
        fd = self._directory_at(head)
        if fd is None:
            return
        try:
            stamp = self._stamp_of(fd)
            levels = [(head, stamp, self._hide_here(fd, head))]
            while levels:
                path, stamp, below = levels[-1]
                if below:
                    name = below.pop()
                    fd = _replaced(fd, os.open(name, OPEN_DIRECTORY, dir_fd=fd))
                    stamp = self._stamp_of(fd)
                    path = posixpath.join(path, name)
                    levels.append((path, stamp, self._hide_here(fd, path)))
                    continue
                levels.pop()
                if stamp is not None:
                    os.utime(fd, ns=(stamp, stamp))
                if levels:
                    fd = _replaced(fd, os.open("..", OPEN_DIRECTORY, dir_fd=fd))
        finally:
            os.close(fd)

    def _hide_here(self, fd: int, path: str) -> list[str]:
        """Remove the entries that this tar did not write, and return the directories that it did."""
        kept = []
        for name in os.listdir(fd):
            if hash(posixpath.join(path, name)) not in self._written:
                remove(fd, name)
            else:
                status = self._lstat(fd, name)
                if status is not None and stat.S_ISDIR(status.st_mode):
                    kept.append(name)
        return kept


def _times(member: Member) -> tuple[int, int]:
    """Return the times of access and change in nanoseconds; one too large for 64 bits becomes 1970, as in docker."""
    time = member.mtime * 1_000_000_000
    if not -_MAX <= time <= _MAX:
        time = 0
    return time, time


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new
