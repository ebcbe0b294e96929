"""The actions of a plan on the root filesystem, the bundle and the volumes of the host, done before the step runs.

What is made in the bundle goes with it; mount points made in the root filesystem are reported, so that they can
be taken away again. It decides nothing and runs nothing.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable

from .errors import HostError
from .planning import (
    ChangeOwner,
    CopyTree,
    CopyVolume,
    MakeDirectory,
    MakeScratch,
    MountPoint,
    Relabel,
    RunPlan,
)
from .rootfs import Created, Root


def write_files(plan: RunPlan, bundle: str) -> None:
    """The generated files, below ``bundle/files``."""
    directory = os.path.join(bundle, "files")
    os.mkdir(directory, 0o755)
    os.chmod(bundle, 0o711)
    for item in plan.files:
        path = os.path.join(directory, item.name)
        with open(path, "x", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(item.content)
        os.chmod(path, item.mode)
        os.chown(path, item.uid, item.gid)


def prepare(plan: RunPlan, root: Root, bundle: str, created: list[Created]) -> None:
    """Write the generated files and do every action; ``created`` collects the mount points to take away again.

    Raises HostError for what this host refuses, OSError for what the root filesystem does.
    """
    write_files(plan, bundle)
    for action in plan.actions:
        if isinstance(action, MakeDirectory):
            root.make_dirs(action.path, action.mode, action.uid, action.gid)
        elif isinstance(action, MountPoint):
            created += root.make_mount_point(action.path, action.directory, action.mode)
        elif isinstance(action, CopyTree):
            _copy_host(action.source, os.path.join(bundle, action.name))
        elif isinstance(action, CopyVolume):
            _copy_volume(action, root, os.path.join(bundle, "volumes", action.name))
        elif isinstance(action, MakeScratch):
            _make_scratch(action.source, os.path.join(bundle, "overlay", action.name))
        elif isinstance(action, ChangeOwner):
            _for_all(action.source, "given another owner", _owner(action.uid, action.gid))
        elif isinstance(action, Relabel):
            _for_all(action.source, "relabelled", _label(action.label))


def _copy_host(source: str, target: str) -> None:
    """A directory or file of the host, whose owner asked for it: links in it are followed as the host would."""
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    if os.path.isdir(source):
        shutil.copytree(source, target, symlinks=False)
    else:
        shutil.copy2(source, target)


def _copy_volume(action: CopyVolume, root: Root, target: str) -> None:
    os.makedirs(target, mode=0o755)
    os.chmod(target, 0o755)
    try:
        fd = root.open(action.path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        _copy_tree(fd, target)
    finally:
        os.close(fd)


def _copy_tree(source: int, target: str) -> None:
    """Copy a directory's content with modes, owners and times; links are copied as links."""
    status = os.fstat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listdir(source):
        entry = os.stat(name, dir_fd=source, follow_symlinks=False)
        path = os.path.join(target, name)
        if stat.S_ISDIR(entry.st_mode):
            os.mkdir(path)
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            try:
                _copy_tree(child, path)
            finally:
                os.close(child)
        elif stat.S_ISLNK(entry.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), path)
            os.chown(path, entry.st_uid, entry.st_gid, follow_symlinks=False)
        elif stat.S_ISREG(entry.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            with os.fdopen(fd, "rb") as reader, open(path, "xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
            os.chown(path, entry.st_uid, entry.st_gid)
            os.chmod(path, stat.S_IMODE(entry.st_mode))
            os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns))
        else:
            os.mknod(path, entry.st_mode, entry.st_rdev)
            os.chown(path, entry.st_uid, entry.st_gid)
            os.chmod(path, stat.S_IMODE(entry.st_mode))


def _make_scratch(source: str, directory: str) -> None:
    """An overlay's directories; the upper one stands for the source's top, so it has its mode and owner."""
    status = os.stat(source)
    for name in ("upper", "work"):
        os.makedirs(os.path.join(directory, name), mode=0o700)
    upper = os.path.join(directory, "upper")
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))


def _owner(uid: int, gid: int) -> Callable[[str, int], None]:
    def change(name: str, parent: int) -> None:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (status.st_uid, status.st_gid) != (
            uid,
            gid,
        ):  # a change that is none would cost the set-user-ID bit
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    return change


def _label(label: str) -> Callable[[str, int], None]:
    def change(name: str, parent: int) -> None:
        # The only call for this takes a path; the descriptor holds the directory, whatever is renamed meanwhile.
        path = f"/proc/self/fd/{parent}/{name}"
        os.setxattr(path, "security.selinux", label.encode() + b"\0", follow_symlinks=False)

    return change


def _for_all(source: str, what: str, change: Callable[[str, int], None]) -> None:
    """``change`` every name at and below ``source``, never what a link leads to."""
    head, name = os.path.split(source)
    try:
        parent = os.open(head, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            change(name, parent)
            for _, directories, files, fd in os.fwalk(name, follow_symlinks=False, dir_fd=parent):
                for entry in (*directories, *files):
                    change(entry, fd)
        finally:
            os.close(parent)
    except OSError as error:
        raise HostError(f"the volume {source} can't be {what}: {error.strerror}") from None
