"""Selected files written into a root filesystem, for COPY and ADD."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable
from contextlib import suppress

import run_step
from run_step import Root, is_machine_root

from ...errors import BuildError
from ...graph.step_graph import CopyOp, Inline
from ...image.archive_apply import is_archive, unpack
from ...image.diff import at, xattrs
from ...image.layer import remove
from ...image.owner import own
from ...image.tar_header import ArchiveError
from ..selection import Item, Selection, reading
from .chmod import parse
from .destination import make_directories, real_path

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_INLINE_MODE = 0o644
_DIRECTORY_MODE = 0o755


class Copier:
    """Writes the files of one COPY or ADD into ``target``, source after source.

    ``owner`` is that of ``--chown``, if there is one. ``check`` is called often while an archive is unpacked, and may
    raise to end it. :meth:`finish` ends the copy.
    """

    def __init__(
        self,
        op: CopyOp,
        target: Root,
        *,
        owner: tuple[int, int] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.op = op
        self.target = target
        self.mode = parse(op.chmod)
        self.owner = owner
        self._check = check
        self._times: list[tuple[str, int, int]] = []
        self._settled = ""
        """The destination, when it is a directory that no link leads to: no copy into it can change that."""

    def copy(
        self,
        source: Root,
        selections: list[Selection],
        *,
        keep: bool = False,
        unpacks: bool = False,
        whole: bool = False,
    ) -> None:
        """Write the selected files, just as their digest counts them.

        Names, modes and link targets are those of ``selections``, and a file has to be the one that was hashed (see
        :func:`buildfront.engine.selection.reading`). ``keep``: files keep owners and extended attributes of the source.
        ``unpacks``: a file that is a tar archive is unpacked. ``whole``: a directory is copied itself where the
        destination does not exist, not only its content.

        Raise Changed for a file that is not, and BuildError for a destination that does not fit the sources.
        """
        for selection in selections:
            work = _Work(self, source, keep, whole)
            if selection.directory:
                work.directory(selection, self._directory())
            elif not (unpacks and self._unpack(source, selection)):
                work.item(selection.items[0], self._file(posixpath.basename(selection.path)))

    def write(self, inline: Inline) -> None:
        """Write a file whose content the Dockerfile holds."""
        if "/" in inline.name or inline.name in ("", ".", ".."):
            raise BuildError(f"the here-document {inline.name!r} can't be a file of that name")
        dest = self._file(inline.name)
        with self.target.parent(dest) as (fd, name):
            make_way(fd, name, dest)
            out = os.open(name, _NEW, 0o600, dir_fd=fd)
            try:
                data = memoryview(inline.content.encode("utf-8", "surrogateescape"))
                while data:
                    data = data[os.write(out, data) :]
                own(out, *(self.owner or (0, 0)), shown=dest)
                os.fchmod(out, self.mode_of(_INLINE_MODE, directory=False))
            finally:
                os.close(out)

    def finish(self) -> None:
        """Set the times of directories, which new files in them have changed."""
        for path, atime, mtime in reversed(self._times):
            fd = self.target.open(path, os.O_PATH | os.O_DIRECTORY)
            try:
                os.utime(f"/proc/self/fd/{fd}", ns=(atime, mtime))
            finally:
                os.close(fd)

    # what the files are like

    def mode_of(self, mode: int, *, directory: bool) -> int:
        """Return the mode that a file with this mode gets."""
        return mode if self.mode is None else self.mode.applied(mode, directory=directory)

    def directory_mode(self) -> int:
        """Return the mode of directories that are made for the destination.

        As with BuildKit, it is a number that ``--chmod`` gives, without its special bits.
        """
        number = self.mode.number if self.mode is not None else None
        return _DIRECTORY_MODE if number is None else number & 0o777

    def later(self, path: str, item: Item) -> None:
        """Give a directory the times of the source, when all is written."""
        self._times.append((path, item.status.st_atime_ns, item.status.st_mtime_ns))

    # where they go

    def make_directories(self, path: str, mode: int | None = None) -> None:
        """Make a directory of the destination, and those above it."""
        mode = self.directory_mode() if mode is None else mode
        make_directories(self.target, path, mode, self.owner or (0, 0), self.op.dest)

    def _directory(self) -> str:
        """Return the destination without links; where the instruction says that it is a directory, make it."""
        if self._settled:
            return self._settled
        dest = self.op.dest
        clean = posixpath.normpath(dest)
        if posixpath.basename(dest) in ("", "."):
            existing = self.target.stat(clean)
            if existing is not None and not stat.S_ISDIR(existing.st_mode):
                raise BuildError(
                    f"the destination {dest!r} is a file in the image, and a directory is needed"
                )
            self.make_directories(real_path(self.target, clean))
        else:
            self.make_directories(real_path(self.target, posixpath.dirname(clean)))
        path = real_path(self.target, clean)
        if path == clean and self._is_directory(path):
            self._settled = path
        return path

    def _file(self, name: str) -> str:
        """Return the path for a file with this name. The directories above it are made."""
        path = self._directory()
        if path == self._settled or self._is_directory(path):
            return posixpath.join(path, name)
        self.make_directories(posixpath.dirname(path))
        return path

    def _is_directory(self, path: str) -> bool:
        status = self.target.lstat(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def _unpack(self, source: Root, selection: Selection) -> bool:
        """Unpack a tar archive; return False when the file is not one."""
        item = selection.items[0]
        if not stat.S_ISREG(item.status.st_mode):
            return False
        with reading(source, item) as fd, os.fdopen(os.dup(fd), "rb") as stream:
            if not is_archive(stream):
                return False
            stream.seek(0)
            path = real_path(self.target, posixpath.normpath(self.op.dest))
            self.make_directories(path, _DIRECTORY_MODE)
            try:
                unpack(stream, self.target, path, self.owner, self._check)
            except ArchiveError as error:
                error.what = f"the archive {selection.path!r}: {error.what}"
                raise
        return True


class _Work:
    """The copy of one source: hard links are kept within it."""

    def __init__(self, copier: Copier, source: Root, keep: bool, whole: bool) -> None:
        self.copier = copier
        self.target = copier.target
        self.source = source
        self.keep = keep
        self.whole = whole
        self.links: dict[tuple[int, int], str] = {}

    def directory(self, selection: Selection, dest: str) -> None:
        """Write the content of a directory into the directory ``dest``."""
        copier, top = self.copier, selection.items[0]
        before = self.target.lstat(dest)
        if before is not None and not stat.S_ISDIR(before.st_mode):
            raise BuildError(
                f"the destination {copier.op.dest!r} is a file in the image, and the source is a directory",
                hint="flags stand before the sources" if posixpath.basename(dest).startswith("--") else "",
            )
        # A mount shows the source directory itself, unless it is the top of a context.
        if before is None and (self.whole or (copier.op.for_mount and top.path)):
            copier.make_directories(posixpath.dirname(dest))
            with self.target.parent(dest) as (fd, name):
                os.mkdir(name, 0o700, dir_fd=fd)
            self._finish(top, dest)
        else:
            copier.make_directories(dest)
            copier.later(dest, top)
        for item in selection.items[1:]:
            if copier.op.for_mount and _is_useless(item.status.st_mode):
                continue  # the instruction did not name it
            self.item(item, posixpath.join(dest, item.name))

    def item(self, item: Item, dest: str) -> None:
        """Write one file, directory or link."""
        try:
            self._put(item, dest)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise BuildError(f"the destination {dest[:100]!r}… can't be made: {error.strerror}") from None

    def _put(self, item: Item, dest: str) -> None:
        kind = item.status.st_mode
        with self.target.parent(dest) as (fd, name):
            if not stat.S_ISDIR(kind):
                make_way(fd, name, dest)
                self._make(item, fd, name, dest)
            elif (there := _lstat(fd, name)) is None:
                os.mkdir(name, 0o700, dir_fd=fd)
            elif not stat.S_ISDIR(there.st_mode):
                what = "link" if stat.S_ISLNK(there.st_mode) else "file"
                raise BuildError(
                    f"{dest!r} is a {what} in the image, and the source has a directory there",
                    hint="name what the link leads to as the destination" if what == "link" else "",
                )
            elif item.passage:  # as with BuildKit, it keeps its owner, and --chmod is not about it
                os.chmod(at(fd, name), stat.S_IMODE(kind))
                return
        self._finish(item, dest)

    def _make(self, item: Item, fd: int, name: str, dest: str) -> None:
        kind = item.status.st_mode
        if stat.S_ISREG(kind):
            identity = (item.status.st_dev, item.status.st_ino)
            if item.status.st_nlink > 1 and self._link(identity, fd, name):
                return
            with reading(self.source, item) as source:
                out = os.open(name, _NEW, 0o600, dir_fd=fd)
                try:
                    run_step.copy_content(source, out)
                    self.links[identity] = dest
                finally:
                    os.close(out)
        elif stat.S_ISLNK(kind):
            os.symlink(item.target, name, dir_fd=fd)
        elif stat.S_ISFIFO(kind):
            os.mkfifo(name, 0o600, dir_fd=fd)
        elif stat.S_ISSOCK(kind):  # leads nowhere in an image: as with BuildKit an empty file stands for it
            os.close(os.open(name, _NEW, 0o600, dir_fd=fd))
        else:
            try:
                os.mknod(name, stat.S_IFMT(kind) | 0o600, item.status.st_rdev, dir_fd=fd)
            except PermissionError:  # of a user namespace; or 0:0, which means something else to an overlay
                raise BuildError(f"{item.path!r} is a device, which can't be made here") from None

    def _link(self, identity: tuple[int, int], fd: int, name: str) -> bool:
        """Make a hard link to the copy of this file; return False where there is none yet."""
        dest = self.links.get(identity)
        if dest is None:
            return False
        with self.target.parent(dest) as (other, original):
            os.link(original, name, src_dir_fd=other, dst_dir_fd=fd, follow_symlinks=False)
        return True

    def _finish(self, item: Item, dest: str) -> None:
        copier, status = self.copier, item.status
        kind = status.st_mode
        uid, gid = copier.owner or ((status.st_uid, status.st_gid) if self.keep else (0, 0))
        mode = copier.mode_of(stat.S_IMODE(kind), directory=stat.S_ISDIR(kind))
        with self.target.parent(dest) as (fd, name):
            own(name, uid, gid, dir_fd=fd, shown=dest)
            if not stat.S_ISLNK(kind):
                os.chmod(at(fd, name), mode)
            if self.keep and (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                with reading(self.source, item) as source:
                    attributes = xattrs(source)
                for key, value in attributes.items():
                    os.setxattr(at(fd, name), key, value, follow_symlinks=False)
            if stat.S_ISDIR(kind):
                copier.later(dest, item)
            else:
                os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)


def make_way(fd: int, name: str, dest: str) -> None:
    """Remove what is in the place of a new file. Raise BuildError for a directory."""
    there = _lstat(fd, name)
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise BuildError(f"{dest!r} is a directory in the image, and the source has a file there")
    if there is not None:
        with suppress(FileNotFoundError):
            remove(fd, name)


def _lstat(fd: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_useless(mode: int) -> bool:
    """Return whether a file is a socket, which leads nowhere in an image, or a device that can't be made here."""
    return stat.S_ISSOCK(mode) or ((stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not is_machine_root())
