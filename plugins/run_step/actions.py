"""The actions of a plan on the root filesystem, the bundle and the host's volumes, done before the step runs.

Everything made in the bundle is removed with it. Mount points made in the root filesystem are recorded, so
that they can be removed again. The module makes no decisions and runs no programs.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from typing import NamedTuple

from . import host_copy
from .errors import HostError
from .host import PROTECTED
from .inputs import Inputs
from .mount_points import settle
from .planning import (
    ChangeOwner,
    CopyTree,
    CopyVolume,
    ForwardAgent,
    MakeDirectory,
    MakeNode,
    MakeScratch,
    MountPoint,
    PutDirectory,
    PutFile,
    PutSecret,
    Relabel,
    RunPlan,
    SetSecret,
    TakeSource,
    host_id,
)
from .rootfs import Created, Root
from .ssh.proxy import Proxy
from .trees import copy_entry, copy_tree, remove_tree


class _Put(NamedTuple):
    """A file put in place at ``path``.

    ``kept`` is the path of the image's own file, empty if there was none. The other fields are the
    directory's status before and after.
    """

    path: str
    kept: str
    before: os.stat_result
    after: os.stat_result


class Undo:
    """The changes to undo in ``root`` after the step; changes by the step can't prevent that."""

    def __init__(self, root: Root, bundle: str) -> None:
        self.root = root
        self.bundle = bundle
        self.done: list[Created | _Put] = []
        self.proxies: list[Proxy] = []

    def run(self) -> None:
        """Undo all changes, in reverse order."""
        for proxy in self.proxies:
            proxy.close()
        self.proxies.clear()
        while self.done:
            last = self.done.pop()
            if isinstance(last, Created):
                self.root.remove_mount_point([last])
            else:
                self._put_back(last)

    def _put_back(self, put: _Put) -> None:
        head, name = os.path.split(put.path)
        try:
            fd = self.root.open(head, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return  # the step itself removed or replaced the directory, and the image's own file with it
        try:
            untouched = os.fstat(fd).st_mtime_ns == put.after.st_mtime_ns
            try:
                os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                pass
            except (IsADirectoryError, PermissionError):
                remove_tree(f"/proc/self/fd/{fd}/{name}")  # the step may have put a tree here, of any depth
            if put.kept:
                _move(put.kept, fd, name)
            if untouched:
                os.utime(fd, ns=(put.before.st_atime_ns, put.before.st_mtime_ns))
        finally:
            os.close(fd)


def write_files(plan: RunPlan, bundle: str) -> None:
    """Write the generated files, below ``bundle/files``."""
    directory = os.path.join(bundle, "files")
    os.mkdir(directory)
    os.chmod(directory, 0o755)
    os.chmod(bundle, 0o711)
    for item in plan.files:
        path = os.path.join(directory, item.name)
        with open(path, "x", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(item.content)
        os.chmod(path, item.mode)
        os.chown(path, item.uid, item.gid)


_PLACES = {TakeSource: "sources", ForwardAgent: "agents", PutSecret: "private", SetSecret: "private"}
"""The directories of a bundle that some actions need."""


def prepare(plan: RunPlan, root: Root, bundle: str, undo: Undo, inputs: Inputs) -> RunPlan:
    """Write the generated files and do every action; ``undo`` collects the changes to undo after the step.

    Returns the plan with the real place of every mount and device, so that a runtime meets no link on its
    way. Secrets are not handled here: :mod:`run_step.secret_files` puts them in place. Raises HostError for a
    refusal of this host, OSError for one of the root filesystem.
    """
    write_files(plan, bundle)
    for name in sorted({_PLACES[type(action)] for action in plan.actions if type(action) in _PLACES}):
        os.mkdir(os.path.join(bundle, name))
        os.chmod(os.path.join(bundle, name), 0o711)  # whatever the umask is, here and elsewhere
    for action in plan.actions:
        if isinstance(action, MakeDirectory):
            _make_directory(action, root)
        elif isinstance(action, MountPoint):
            undo.done += _mount_point(root, action.path, action.directory, action.mode)
        elif isinstance(action, PutFile):
            _put(os.path.join(bundle, "files", action.name), action.path, undo)
        elif isinstance(action, PutDirectory):
            _put_directory(action.path, undo)
        elif isinstance(action, MakeNode):
            _make_node(action, undo)
        elif isinstance(action, CopyTree):
            linux = plan.spec["linux"]
            step_root = host_id(linux, "uidMappings", 0), host_id(linux, "gidMappings", 0)
            host_copy.copy(action.source, os.path.join(bundle, action.name), step_root)
        elif isinstance(action, CopyVolume):
            _copy_volume(action, root, os.path.join(bundle, "volumes", action.name))
        elif isinstance(action, MakeScratch):
            _make_scratch(action.source, os.path.join(bundle, "overlay", action.name))
        elif isinstance(action, ChangeOwner):
            _for_all(action.source, "given another owner", _owner(action.uid, action.gid))
        elif isinstance(action, Relabel):
            _for_all(action.source, "relabelled", _label(action.label))
        elif isinstance(action, TakeSource):
            _take(action, inputs.sources[action.name], bundle, undo)
        elif isinstance(action, ForwardAgent):
            directory = os.path.join(bundle, "agents")
            agent = inputs.agents[action.id]
            undo.proxies.append(
                Proxy(directory, action.name, agent, mode=action.mode, uid=action.uid, gid=action.gid)
            )
    return settle(plan, root, bundle, inputs, undo.done.extend)


def _make_directory(action: MakeDirectory, root: Root) -> None:
    try:
        root.make_dirs(action.path, action.mode, action.uid, action.gid)
    except OSError as error:
        raise HostError(f"the directory {action.path} can't be made in the image: {error.strerror}") from None


def _mount_point(root: Root, path: str, directory: bool, mode: int = 0o755) -> list[Created]:
    try:
        return root.make_mount_point(path, directory, mode)
    except OSError as error:
        raise HostError(f"{path} can't be mounted on: {error.strerror}") from None


def _take(action: TakeSource, source: str, bundle: str, undo: Undo) -> None:
    link = os.path.join(bundle, "sources", action.name)
    if not os.path.islink(link):  # one source may be mounted twice
        os.symlink(source, link)
    if not action.path:
        return
    directory = os.path.isdir(source)
    there = undo.root.stat(action.path)
    if there is None:
        undo.done += _mount_point(undo.root, action.path, directory)
    elif stat.S_ISDIR(there.st_mode) != directory:
        kinds = ("a file", "a directory")
        raise HostError(
            f"{action.path} is {kinds[not directory]} in the image, and what is to be mounted there is "
            f"{kinds[directory]}"
        )


def _keep(path: str, undo: Undo, fd: int) -> None:
    """Set aside ``path``, an entry of the open directory ``fd``; the caller replaces it."""
    before = os.fstat(fd)
    kept = ""
    if undo.root.lstat(path) is not None:
        kept = os.path.join(undo.bundle, f"kept-{len(undo.done)}")
        _set_aside(fd, os.path.basename(path), kept)
    undo.done.append(_Put(path, kept, before, before))


def _complete(undo: Undo, fd: int) -> None:
    """Record the status of the directory after :func:`_keep` and the replacement; the step has not begun."""
    last = undo.done[-1]
    if isinstance(last, _Put):
        undo.done[-1] = last._replace(after=os.fstat(fd))


def _put_directory(path: str, undo: Undo) -> None:
    status = undo.root.lstat(path)
    if status is not None and stat.S_ISDIR(status.st_mode):
        return
    head, name = os.path.split(path)
    fd = undo.root.open(head, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _keep(path, undo, fd)
        os.mkdir(name, 0o755, dir_fd=fd)
        os.chmod(name, 0o755, dir_fd=fd)  # whatever the umask is
        _complete(undo, fd)
    except OSError as error:
        raise HostError(f"{path} of the image can't be set aside for the step: {error.strerror}") from None
    finally:
        os.close(fd)


def _put(source: str, path: str, undo: Undo) -> None:
    head, name = os.path.split(path)
    undo.done += undo.root.make_mount_point(head, True)
    fd = undo.root.open(head, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = undo.root.lstat(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise HostError(f"{path} in the image is a directory; a step needs a file of its own there")
        _keep(path, undo, fd)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(source, "rb") as reader, os.fdopen(os.open(name, flags, 0o600, dir_fd=fd), "wb") as writer:
            shutil.copyfileobj(reader, writer)
            mode = os.fstat(reader.fileno())
            os.fchown(writer.fileno(), mode.st_uid, mode.st_gid)
            os.fchmod(writer.fileno(), stat.S_IMODE(mode.st_mode))
        _complete(undo, fd)
    finally:
        os.close(fd)


def _make_node(action: MakeNode, undo: Undo) -> None:
    if undo.root.lstat(action.path) is not None:
        return
    head, name = os.path.split(action.path)
    undo.done += undo.root.make_mount_point(head, True)
    fd = undo.root.open(head, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = os.fstat(fd)
        os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(action.major, action.minor), dir_fd=fd)
        os.chmod(name, 0o666, dir_fd=fd)  # whatever the umask is
        undo.done.append(_Put(action.path, "", before, os.fstat(fd)))
    except PermissionError as error:
        raise HostError(f"the device {action.path} can't be made: {error.strerror}") from None
    finally:
        os.close(fd)


def _set_aside(fd: int, name: str, kept: str) -> None:
    """Move an entry out of the step's reach; copy it if the bundle is on another filesystem."""
    try:
        os.rename(name, kept, src_dir_fd=fd)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    parent = os.open(os.path.dirname(kept), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy_entry(fd, name, parent, os.path.basename(kept))
    finally:
        os.close(parent)
    os.unlink(name, dir_fd=fd)


def _move(kept: str, fd: int, name: str) -> None:
    try:
        os.rename(kept, name, dst_dir_fd=fd)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    parent = os.open(os.path.dirname(kept), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy_entry(parent, os.path.basename(kept), fd, name)
    finally:
        os.close(parent)


def _copy_volume(action: CopyVolume, root: Root, target: str) -> None:
    os.makedirs(target, mode=0o755)
    os.chmod(target, 0o755)
    try:
        fd = root.open(action.path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"the volume {action.path} of the image can't be copied: {error.strerror}") from None
    try:
        made = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_tree(fd, made)
        finally:
            os.close(made)
    except OSError as error:
        what = f"{action.path} of the image can't be copied: {error.filename or ''}: {error.strerror}"
        raise HostError(f"the volume {what}") from None
    finally:
        os.close(fd)


def _make_scratch(source: str, directory: str) -> None:
    """Make an overlay's directories; the upper one replaces the source's top, so it gets its mode and owner."""
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
        ):  # a change without effect would clear the set-user-ID bit
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    return change


def _label(label: str) -> Callable[[str, int], None]:
    def change(name: str, parent: int) -> None:
        # The only call for this takes a path; the descriptor holds the directory, even if it is renamed
        # meanwhile.
        path = f"/proc/self/fd/{parent}/{name}"
        os.setxattr(path, "security.selinux", label.encode() + b"\0", follow_symlinks=False)

    return change


def _for_all(source: str, what: str, change: Callable[[str, int], None]) -> None:
    """Call ``change`` for every name at and below ``source``, without leaving its mount or following links.

    Only ``source`` itself may be a link.
    """
    real = os.path.realpath(source)
    if real in PROTECTED:
        raise HostError(f"the volume {source} leads to {real} of the host, which must not be {what}")
    head, name = os.path.split(real)
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
