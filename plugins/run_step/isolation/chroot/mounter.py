"""The mounts of a plan, made below a descriptor of the root filesystem; masked paths; device nodes.

It runs in the child that becomes the step, as root of the namespace that will own the mounts. Every
destination is resolved inside the root filesystem, whatever links the image has. It makes no decisions.

Hot path of every chroot RUN: imports ctypes wrappers and nothing heavy.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import Any

from ...linux import mount as m
from ...linux.device_numbers import DEVICES
from ...linux.openat2 import open_in_root

_FLAGS = {
    "ro": m.MS_RDONLY,
    "nosuid": m.MS_NOSUID,
    "nodev": m.MS_NODEV,
    "noexec": m.MS_NOEXEC,
    "noatime": m.MS_NOATIME,
    "relatime": m.MS_RELATIME,
    "strictatime": m.MS_STRICTATIME,
    "nodiratime": m.MS_NODIRATIME,
}
_CLEARED = frozenset(
    "rw suid dev exec atime diratime norelatime nostrictatime async nomand defaults bind rbind".split()
)
_RECURSIVE = {"rro": m.MS_RDONLY, "rnosuid": m.MS_NOSUID, "rnodev": m.MS_NODEV, "rnoexec": m.MS_NOEXEC}
"""Flags for a bind mount and all mounts below it (runtime-spec, config.md, "Linux mount options")."""
_PROPAGATION = {
    "private": m.MS_PRIVATE | m.MS_REC,  # else a read-only tree would show later mounts, writable
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED | m.MS_REC,
    "unbindable": m.MS_UNBINDABLE,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
)
"""The links in /dev of the OCI specification (runtime-linux.md, "Dev symbolic links")."""

_MAX_LINKS = 40  # linux/namei.h, MAXSYMLINKS

_NAMESPACED = ("proc", "sysfs", "mqueue", "devpts")
"""Types that show a namespace: only its owner can mount them."""


class MountError(Exception):
    """A mount that can't be made; the text is for the user."""


def split(items: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split the mounts of a step with its own user namespace into those of the builder and those made inside.

    Only the builder can reach the host's files and make device nodes. The order is kept.
    """
    outer: list[dict[str, Any]] = []
    inner: list[dict[str, Any]] = []
    for item in items:
        below = any(item["destination"].startswith(other["destination"].rstrip("/") + "/") for other in inner)
        (inner if below or item["type"] in _NAMESPACED else outer).append(item)
    return outer, inner


class Mounter:
    """Make mounts below ``root``, a descriptor.

    ``owner`` is the owner of everything made here (the step's root, as the calling process sees it).
    ``label`` is the SELinux label of new filesystems, empty for none. ``warnings`` collects the mounts that
    had to be made in another way.
    """

    def __init__(self, root: int, owner: tuple[int, int] = (0, 0), label: str = "") -> None:
        self.root = root
        self.owner = owner
        self.label = label
        self.warnings: list[str] = []

    def mount_all(self, items: Iterable[dict[str, Any]]) -> None:
        """Make the mounts in this order. Raises MountError, which names the mount."""
        for item in items:
            try:
                self._mount(item)
            except OSError as error:
                raise MountError(_failure(item, error)) from error

    def _target(self, path: str, directory: bool, links: int = 0) -> int:
        """Return a descriptor of the place to mount on; make it if it is missing, which may be in an earlier mount.

        A dangling link is followed inside the root, and its target is made.
        """
        try:
            return open_in_root(self.root, path, os.O_PATH)
        except FileNotFoundError:
            head, name = os.path.split(path)
            parent = self._target(head, True)
            try:
                if directory:
                    os.mkdir(name, 0o755, dir_fd=parent)
                else:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=parent))
                self._own(name, parent)
            except FileExistsError:
                if links >= _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                return self._target(
                    os.path.join(head, os.readlink(name, dir_fd=parent)), directory, links + 1
                )
            finally:
                os.close(parent)
            return open_in_root(self.root, path, os.O_PATH)

    def _own(self, name: str, parent: int) -> None:
        if self.owner != (0, 0):
            os.chown(name, *self.owner, dir_fd=parent, follow_symlinks=False)

    def _mount(self, item: dict[str, Any]) -> None:
        destination, options = item["destination"], item["options"]
        if _is_root(self.root, destination):
            # The mount would not be seen through ``root``, and the image itself would be written to.
            raise MountError(f"{destination} in the image is a link to its root directory")
        flags, propagation, data = 0, 0, []
        for option in options:
            if option in _FLAGS:
                flags |= _FLAGS[option]
            elif option in _PROPAGATION:
                propagation = _PROPAGATION[option]
            elif option in _RECURSIVE and item["type"] == "bind":
                flags |= _RECURSIVE[option]
            elif option not in _CLEARED:
                data.append(option)
        if item["type"] == "bind":
            self._bind(item["source"], destination, options, flags)
        else:
            if item["type"] in ("overlay", "tmpfs") and "dev" not in options and destination != "/dev":
                flags |= m.MS_NODEV
            if item["type"] == "tmpfs" and self.owner != (0, 0):
                data += [f"{kind}={number}" for kind, number in zip(("uid", "gid"), self.owner, strict=True)]
            if self.label and item["type"] in ("tmpfs", "devpts"):
                data.append(f'context="{self.label}"')
            covered = _mode(self.root, destination)
            if item["type"] == "tmpfs" and covered and not any(word.startswith("mode=") for word in data):
                data.append(f"mode={covered:o}")  # as OCI runtimes do
            fd = self._target(destination, True)
            try:
                m.mount(item["source"], _proc(fd), item["type"], flags, ",".join(data))
            except PermissionError:
                if item["type"] != "proc":
                    raise
                # In a container whose own /proc is partly covered, the kernel refuses to mount a new one in a
                # namespace.
                m.mount("/proc", _proc(fd), flags=m.MS_BIND | m.MS_REC)
                self.warnings.append(
                    "/proc is the builder's: the kernel gives this user namespace none of its own"
                )
            finally:
                os.close(fd)
        fd = open_in_root(self.root, destination, os.O_PATH)
        # Without an option the mount receives no later mount of the host: /sys would show it, and writable.
        m.mount("", _proc(fd), flags=propagation or m.MS_PRIVATE | m.MS_REC)
        if destination == "/dev" and item["type"] == "tmpfs":
            self._devices(fd)
        os.close(fd)

    def _bind(self, source: str, destination: str, options: list[str], flags: int) -> None:
        directory = stat.S_ISDIR(os.stat(source).st_mode)
        fd = self._target(destination, directory)
        if directory and "dev" not in options and not (source + "/").startswith("/dev/"):
            flags |= m.MS_NODEV
        recursive = m.MS_REC if "rbind" in options else 0
        m.mount(source, _proc(fd), flags=m.MS_BIND | recursive)
        os.close(fd)
        fd = open_in_root(self.root, destination, os.O_PATH)
        if flags:
            m.mount("", _proc(fd), flags=m.MS_BIND | m.MS_REMOUNT | flags | _locked(fd))
        below = flags & (m.MS_RDONLY | m.MS_NODEV) if recursive else 0
        asked = sum(flag for option, flag in _RECURSIVE.items() if option in options)
        if asked:
            m.restrict_tree(fd, below | asked)
        elif below:
            # A remount is not recursive: mounts below /sys, such as the cgroups, would stay writable, and
            # below a volume a step could make a node of a disk and open it.
            _restrict_below(fd, below)
        os.close(fd)

    def add_devices(self, devices: Iterable[dict[str, Any]]) -> None:
        """Make the device nodes that the plan adds (row S31), in the step's own /dev or another of its filesystems."""
        old = os.umask(0)
        try:
            for item in devices:
                try:
                    self._add_device(item)
                except OSError as error:
                    raise MountError(f"the device {item['path']} can't be made: {error.strerror}") from None
        finally:
            os.umask(old)

    def _add_device(self, item: dict[str, Any]) -> None:
        """Make a node as a mount of its own, because the filesystem around it lets no device be opened."""
        head, name = os.path.split(item["path"])
        parent = self._target(head, True)
        directory = os.open(_proc(parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(parent)
        kind = {"b": stat.S_IFBLK, "p": stat.S_IFIFO}.get(item["type"], stat.S_IFCHR)
        try:
            number = os.makedev(item.get("major", 0), item.get("minor", 0))
            os.mknod(name, kind | item.get("fileMode", 0o666), number, dir_fd=directory)
            os.chown(name, item.get("uid", 0), item.get("gid", 0), dir_fd=directory, follow_symlinks=False)
            path = f"{_proc(directory)}/{name}"
            m.mount(path, path, flags=m.MS_BIND)
        except FileExistsError:
            return  # one of the usual devices
        finally:
            os.close(directory)
        fd = open_in_root(self.root, item["path"], os.O_PATH)
        m.mount("", _proc(fd), flags=m.MS_BIND | m.MS_REMOUNT | (_locked(fd) & ~m.MS_NODEV))
        os.close(fd)

    def _devices(self, dev: int) -> None:
        directory = os.open(_proc(dev), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        old = os.umask(0)
        for name, major, minor in DEVICES:
            path = f"{_proc(directory)}/{name}"
            try:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=directory)
                self._own(name, directory)
                source = path
            except PermissionError:
                # No node can be made in a user namespace, so the host's own is bound.
                os.close(
                    os.open(
                        name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=directory
                    )
                )
                source = f"/dev/{name}"
            m.mount(source, path, flags=m.MS_BIND)  # a mount of its own, which lets devices be opened
        for name, target in _LINKS:
            os.symlink(target, name, dir_fd=directory)
            self._own(name, directory)
        os.umask(old)
        os.close(directory)
        no_devices(dev)

    def mask(self, masked: Iterable[str], read_only: Iterable[str]) -> None:
        """Make masked paths empty and read-only paths unwritable; paths that this kernel does not have are left out."""
        for path in read_only:
            try:
                fd = open_in_root(self.root, path, os.O_PATH)
            except OSError:
                continue
            m.mount(_proc(fd), _proc(fd), flags=m.MS_BIND | m.MS_REC)
            os.close(fd)
            fd = open_in_root(self.root, path, os.O_PATH)
            m.mount("", _proc(fd), flags=m.MS_BIND | m.MS_REMOUNT | m.MS_RDONLY | _locked(fd))
            os.close(fd)
        for path in masked:
            try:
                fd = open_in_root(self.root, path, os.O_PATH)
            except OSError:
                continue
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                m.mount("tmpfs", _proc(fd), "tmpfs", m.MS_RDONLY, "size=0")
            else:
                null = open_in_root(self.root, "/dev/null", os.O_PATH)
                status = os.fstat(null)
                if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
                    raise MountError(f"{path} can't be hidden: the step's /dev/null is something else")
                m.mount(_proc(null), _proc(fd), flags=m.MS_BIND)
                os.close(null)
            os.close(fd)


def _proc(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _failure(item: dict[str, Any], error: OSError) -> str:
    bind = item["type"] == "bind"
    what = item["source"] if bind else f"the {item['type']}"
    text = f"mounting {what} on {item['destination']}: {os.strerror(error.errno or 0)}"
    if error.errno == errno.EINVAL and bind and "rbind" not in item["options"]:
        text += "; a user namespace can't leave out what is mounted below it: use rbind"
    return text


def _is_root(root: int, path: str) -> bool:
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(root))
    finally:
        os.close(fd)


def _mode(root: int, path: str) -> int:
    """Return the mode of a path; 0 if it does not exist."""
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except OSError:
        return 0
    try:
        return stat.S_IMODE(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _restrict_below(fd: int, flags: int) -> None:
    try:
        m.restrict_tree(fd, flags)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def _locked(fd: int) -> int:
    """Return the flags that the mount has already: a remount must repeat them or the kernel refuses."""
    have = os.fstatvfs(fd).f_flag
    out = 0
    for bit, flag in (
        (os.ST_RDONLY, m.MS_RDONLY),
        (os.ST_NOSUID, m.MS_NOSUID),
        (os.ST_NODEV, m.MS_NODEV),
        (os.ST_NOEXEC, m.MS_NOEXEC),
    ):
        out |= flag if have & bit else 0
    return out


def no_devices(fd: int) -> None:
    """Forbid to open device nodes in the mount whose root is ``fd``.

    A step may make nodes (CAP_MKNOD), and no device cgroup keeps it from the host's disks here.
    """
    restrict(fd, m.MS_NODEV)


def restrict(fd: int, flags: int) -> None:
    """Add ``flags`` to those of the mount whose root is ``fd``, and of no other."""
    m.mount("", _proc(fd), flags=m.MS_BIND | m.MS_REMOUNT | flags | _locked(fd))
