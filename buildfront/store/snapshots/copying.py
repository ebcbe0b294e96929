"""Snapshots as whole trees, for machines that can't mount an overlay: slower, larger, and they always work."""

from __future__ import annotations

import os
import shutil
import stat

from run_step import remove_tree

from ...image.diff import Comparison, at
from . import View


def copy_tree(source: int, target: int, links: dict[tuple[int, int], str], prefix: str = "") -> None:
    """Copy what is in one open directory into another: content, modes, owners, times, attributes, hard links."""
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = status.st_mode
        path = prefix + name
        identity = (status.st_dev, status.st_ino)
        if not stat.S_ISDIR(kind) and status.st_nlink > 1:
            if identity in links:
                os.link(links[identity], at(target, name), follow_symlinks=False)
                continue
            links[identity] = at(target, name)
        if stat.S_ISDIR(kind):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner, new = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
            try:
                # Links are remembered by paths through open descriptors: a directory of their own each.
                copy_tree(inner, new, {}, path + "/")
            finally:
                os.close(inner)
                os.close(new)
        elif stat.S_ISLNK(kind):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISREG(kind):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, dir_fd=source), "rb") as reader:
                make = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(name, make, 0o600, dir_fd=target), "wb") as writer:
                    shutil.copyfileobj(reader, writer, 1 << 20)
        else:
            os.mknod(name, stat.S_IFMT(kind) | 0o600, status.st_rdev, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(kind):
            os.chmod(at(target, name), stat.S_IMODE(kind))
        copy_xattrs(at(source, name), at(target, name))
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def copy_xattrs(source: str, target: str) -> None:
    """The extended attributes that may be copied."""
    for key in os.listxattr(source, follow_symlinks=False):
        if key.startswith(("trusted.overlay.", "security.selinux", "system.")):
            continue
        os.setxattr(target, key, os.getxattr(source, key, follow_symlinks=False), follow_symlinks=False)


class CopyActive:
    """A whole copy of the parent's tree."""

    def __init__(self, work: str, lineage: list[str]) -> None:
        self._work = work
        self._snapshot = os.path.join(work, "snapshot")
        self.path = os.path.join(self._snapshot, "fs")
        os.makedirs(self.path, 0o755)
        if lineage:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            parent = os.path.join(lineage[0], "fs")
            source, target = os.open(parent, flags), os.open(self.path, flags)
            try:
                copy_tree(source, target, {})
                root = os.fstat(source)
                os.fchown(target, root.st_uid, root.st_gid)
                os.fchmod(target, stat.S_IMODE(root.st_mode))
                os.utime(target, ns=(root.st_atime_ns, root.st_mtime_ns))
            finally:
                os.close(source)
                os.close(target)
        # Whatever changes from here on has a change time that is not before this file's.
        with open(os.path.join(self._snapshot, "since"), "x", encoding="ascii"):
            pass

    def finish(self) -> str:
        return self._snapshot

    def discard(self) -> None:
        remove_tree(self._work)


class CopyDriver:
    """See :class:`buildfront.store.snapshots.Driver`."""

    name = "copy"

    def prepare(self, work: str, lineage: list[str]) -> CopyActive:
        return CopyActive(work, lineage)

    def view(self, work: str, lineage: list[str]) -> View:
        return View(os.path.join(lineage[0], "fs") if lineage else work)

    def comparison(self, directory: str) -> tuple[str, Comparison]:
        since = os.stat(os.path.join(directory, "since")).st_mtime_ns
        return os.path.join(directory, "fs"), Comparison(complete=True, since_ns=since)
