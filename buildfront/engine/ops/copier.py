"""Selected files written into a root filesystem, for COPY and ADD."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable

import run_step
from run_step import RequestError, Root, is_machine_root

from ...errors import BuildError
from ...graph.step_graph import CopyOp
from ...image.compression import reader, unreadable
from ...image.diff import at, xattrs
from ...image.layer import Applier, remove
from ...image.owner import own
from ...image.tar_header import ArchiveError, is_header
from ...image.tar_reader import Cancellable
from ..selection import Item, Selection, reading


def parse_chmod(text: str) -> int | None:
    """Return the mode of ``755`` or ``0644``; None for the empty string. Raise BuildError for anything else."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or any(char in "89" for char in text) or int(text, 8) > 0o7777:
        raise BuildError(f"--chmod={text}: an octal mode is wanted, as in --chmod=644")
    return int(text, 8)


def owner(root: Root, text: str) -> tuple[int, int] | None:
    """Return ``--chown`` as numbers; None for the empty string. A number without a group is its own group.

    Raise BuildError for a user or a group that the image does not have.
    """
    if not text:
        return None
    who, colon, group = text.partition(":")
    try:
        identity = run_step.resolve_user(root, who)
        if colon and group:
            return identity.uid, run_step.resolve_group(root, group)
        return identity.uid, identity.uid if who.isdigit() else identity.gid
    except RequestError as error:
        raise BuildError(f"--chown={text}: {error}") from None


class Copier:
    """Writes the files of one COPY or ADD into ``target``.

    With ``keep_owner``, files keep the owner that they have in the source. ``check`` is called often while an archive
    is unpacked, and may raise to end it.
    """

    def __init__(
        self,
        op: CopyOp,
        source: Root,
        target: Root,
        *,
        keep_owner: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.check = check
        self.op = op
        self.source = source
        self.target = target
        self.mode = parse_chmod(op.chmod)
        self.owner = owner(target, op.chown)
        self.keep_owner = keep_owner and self.owner is None
        self.times: list[tuple[str, int, int]] = []
        self.links: dict[tuple[int, int], tuple[str, int]] = {}

    def run(self, selections: list[Selection]) -> None:
        """Write the selected files, just as their digest counts them.

        Names, modes and link targets are those of ``selections``, and a file has to be the one that was hashed (see
        :func:`buildfront.engine.selection.reading`).

        Raise Changed for a file that is not, and BuildError for a destination that does not fit the sources.
        """
        dest = self.op.dest
        existing = self.target.stat(posixpath.normpath(dest))
        if existing is not None and not stat.S_ISDIR(existing.st_mode) and dest.endswith("/"):
            raise BuildError(f"the destination {dest!r} is a file in the image, and a directory is needed")
        into = (
            dest.endswith("/")
            or len(selections) > 1
            or (existing is not None and stat.S_ISDIR(existing.st_mode))
        )
        for selection in selections:
            if selection.directory:
                self._directory(selection, posixpath.normpath(dest))
            elif self.op.unpack and self._unpack(selection, posixpath.normpath(dest)):
                continue
            else:
                base = posixpath.basename(selection.path)
                self._file(selection.items[0], posixpath.join(dest, base) if into else dest)
        for path, atime, mtime in reversed(self.times):
            fd = self.target.open(path, os.O_PATH | os.O_DIRECTORY)
            try:
                os.utime(f"/proc/self/fd/{fd}", ns=(atime, mtime))
            finally:
                os.close(fd)

    def _parents(self, path: str) -> None:
        uid, gid = self.owner or (0, 0)
        try:
            self.target.make_dirs(path, 0o755, uid, gid)
        except NotADirectoryError:
            raise BuildError(f"the destination {path!r} leads through a file of the image") from None
        except OSError as error:
            raise BuildError(f"the destination {path!r} can't be made: {error.strerror}") from None

    def _directory(self, selection: Selection, dest: str) -> None:
        before = self.target.stat(dest)
        if before is not None and not stat.S_ISDIR(before.st_mode):
            raise BuildError(
                f"the destination {dest!r} is a file in the image, and the source is a directory"
            )
        self._parents(dest)
        for item in selection.items:
            if item.name == "":
                if before is None:
                    self._finish(item, dest)
                continue
            if self.op.for_mount and _is_useless(item.status.st_mode):
                continue  # the instruction did not name it
            self._item(item, posixpath.join(dest, item.name))

    def _file(self, item: Item, dest: str) -> None:
        self._parents(posixpath.dirname(dest))
        self._item(item, dest)

    def _item(self, item: Item, dest: str) -> None:
        try:
            self._put(item, dest)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise BuildError(f"the destination {dest[:100]!r}… can't be made: {error.strerror}") from None

    def _put(self, item: Item, dest: str) -> None:
        kind = item.status.st_mode
        with self.target.parent(dest) as (fd, name):
            try:
                there = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                there = None
            if stat.S_ISDIR(kind):
                if there is not None and not stat.S_ISDIR(there.st_mode):
                    if not (stat.S_ISLNK(there.st_mode) and self.target.stat(dest) is not None):
                        raise BuildError(
                            f"{dest!r} is a file in the image, and the source has a directory there"
                        )
                    return  # a link to a directory stays: what follows goes where it leads
                if there is None:
                    os.mkdir(name, 0o700, dir_fd=fd)
            else:
                if there is not None and stat.S_ISDIR(there.st_mode):
                    raise BuildError(f"{dest!r} is a directory in the image, and the source has a file there")
                remove(fd, name)
                self._make(item, fd, name, dest)
        self._finish(item, dest)

    def _make(self, item: Item, fd: int, name: str, dest: str) -> None:
        kind = item.status.st_mode
        if stat.S_ISREG(kind):
            identity = (item.status.st_dev, item.status.st_ino)
            if item.status.st_nlink > 1 and self._link(identity, fd, name):
                return
            make = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with reading(self.source, item) as source:
                out = os.open(name, make, 0o600, dir_fd=fd)
                try:
                    run_step.copy_content(source, out)
                    self.links[identity] = dest, os.fstat(out).st_ino
                finally:
                    os.close(out)
        elif stat.S_ISLNK(kind):
            os.symlink(item.target, name, dir_fd=fd)
        elif stat.S_ISFIFO(kind):
            os.mkfifo(name, 0o600, dir_fd=fd)
        elif stat.S_ISSOCK(kind):
            raise BuildError(f"{item.path!r} is a socket, which can't be copied")
        else:
            try:
                os.mknod(name, stat.S_IFMT(kind) | 0o600, item.status.st_rdev, dir_fd=fd)
            except PermissionError:  # of a user namespace; or 0:0, which means something else to an overlay
                raise BuildError(f"{item.path!r} is a device, which can't be made here") from None

    def _link(self, identity: tuple[int, int], fd: int, name: str) -> bool:
        """Make a hard link to the copy of this file.

        Return False when the copy is gone, because another source has been written in its place.
        """
        dest, number = self.links.get(identity, ("", 0))
        there = self.target.lstat(dest) if dest else None
        if there is None or there.st_ino != number:
            return False
        with self.target.parent(dest) as (other, original):
            os.link(original, name, src_dir_fd=other, dst_dir_fd=fd, follow_symlinks=False)
        return True

    def _finish(self, item: Item, dest: str) -> None:
        keep = self.keep_owner and not self._is_holder(item)
        uid, gid = self.owner or ((item.status.st_uid, item.status.st_gid) if keep else (0, 0))
        kind = item.status.st_mode
        if stat.S_ISDIR(kind):
            # The destination itself can be a link: it is followed inside the root, never by the kernel's own rules.
            fd = self.target.open(dest, os.O_PATH | os.O_DIRECTORY)
            try:
                own(f"/proc/self/fd/{fd}/.", uid, gid, shown=dest)
                mode = 0o755 if self._is_holder(item) else stat.S_IMODE(kind)
                os.chmod(f"/proc/self/fd/{fd}", mode if self.mode is None else self.mode)
            finally:
                os.close(fd)
            self.times.append((dest, item.status.st_atime_ns, item.status.st_mtime_ns))
            return
        with self.target.parent(dest) as (fd, name):
            own(name, uid, gid, dir_fd=fd, shown=dest)
            if not stat.S_ISLNK(kind):
                os.chmod(at(fd, name), stat.S_IMODE(kind) if self.mode is None else self.mode)
                if stat.S_ISREG(kind) and self.keep_owner:
                    with reading(self.source, item) as source:
                        for key, value in xattrs(source).items():
                            os.setxattr(at(fd, name), key, value, follow_symlinks=False)
            times = (item.status.st_atime_ns, item.status.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)

    def _is_holder(self, item: Item) -> bool:
        """Return whether this is the directory that COPY makes for the files of its source.

        Its owner and mode are those of the COPY. A mount shows the source directory itself, unless it is the top of a
        context.
        """
        return item.name == "" and stat.S_ISDIR(item.status.st_mode) and not (self.op.for_mount and item.path)

    def _unpack(self, selection: Selection, dest: str) -> bool:
        """Unpack a tar archive; return False when the file is not one."""
        if not stat.S_ISREG(selection.items[0].status.st_mode):
            return False
        with reading(self.source, selection.items[0]) as fd, os.fdopen(os.dup(fd), "rb") as stream:
            try:
                if not is_tar(reader(stream).read(512)):
                    return False
            except unreadable():
                return False
            stream.seek(0)
            self._parents(dest)
            applier = Applier(self.target, base=dest, whiteouts=False, owner=self.owner)
            try:
                applier.apply(Cancellable(reader(Cancellable(stream, self.check)), self.check))
            except unreadable() as error:
                raise BuildError(f"the archive {selection.path!r} is damaged: {error}") from None
            except ArchiveError as error:
                error.what = f"the archive {selection.path!r}: {error.what}"
                raise
        return True


def _is_useless(mode: int) -> bool:
    """Return whether a file is a socket, which leads nowhere in an image, or a device that can't be made here."""
    return stat.S_ISSOCK(mode) or ((stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not is_machine_root())


def is_tar(head: bytes) -> bool:
    """Return whether the first block is a tar header with the right checksum (tar(5))."""
    return is_header(head)
