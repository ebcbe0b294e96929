"""The store's own mounts, and the mount namespace that makes them end with the builder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from run_step import is_machine_root
from run_step.linux import mount as m
from run_step.linux.mount_context import MOUNT_ATTR_RDONLY, mount_with


def enter_private_namespace(*, receive: bool = False) -> None:
    """Move this thread, and all that it starts, into a mount namespace of its own.

    Whatever ends the build, the kernel then unmounts everything that was mounted for it. Other threads of the program
    stay where they are. Mounts made here are never seen outside; with ``receive`` the mounts that the host makes and
    removes later are seen here, for volumes that ask for it. Raise OSError if the privilege is missing.
    """
    m.unshare(m.CLONE_NEWNS)
    if not receive:
        m.mount("", "/", flags=m.MS_PRIVATE | m.MS_REC)
        return
    m.mount("", "/", flags=m.MS_SLAVE | m.MS_REC)
    try:
        m.mount(
            "", "/sys", flags=m.MS_PRIVATE | m.MS_REC
        )  # steps have it, and would see what comes later writable
    except OSError:
        pass  # nothing is mounted there


def mount_overlay(target: str, lower: list[str], upper: str = "", work: str = "") -> int:
    """Mount an overlay, read-only without ``upper``. ``lower`` begins with the topmost directory.

    Return the number of mounts at ``target``, which :func:`unmount` takes: more directories than one overlay can have
    are two overlays, the lower one read-only. redirect_dir, metacopy and index are off: an upper directory must mean
    the same to every reader. In a user namespace the overlay keeps its marks in ``user.`` attributes; ``trusted.``
    ones are for the machine's root.

    Raise OSError, with E2BIG for more directories than two overlays can have.
    """
    if len(lower) <= _FEW:
        _mount_by_page(target, lower, upper, work)
        return 1
    try:
        return _mount_stacked(target, lower, upper, work, _mount_one_by_one, _MOST)
    except OSError as error:
        # A kernel before 6.5 has no lowerdir+. A sandbox around the builder may refuse the calls.
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
    return _mount_stacked(target, lower, upper, work, _mount_by_page, _FEW)


_FEW = 200
"""So many directories fit into mount(2)'s one page of options, named by descriptors."""

_MOST = 500
"""The most lower directories of one overlay (OVL_MAX_STACK in the kernel's fs/overlayfs/params.h)."""

_Mounter = Callable[[str, list[str], str, str], None]


def _mount_stacked(target: str, lower: list[str], upper: str, work: str, mount: _Mounter, most: int) -> int:
    if len(lower) <= most:
        mount(target, lower, upper, work)
        return 1
    if len(lower) > 2 * most - 1:
        raise OSError(
            errno.E2BIG, f"{len(lower)} layers are more than the {2 * most - 1} that can be mounted"
        )
    mount(target, lower[-most:], "", "")
    try:
        mount(target, [*lower[:-most], target], upper, work)
    except BaseException:
        unmount(target)
        raise
    return 2


def _options() -> list[tuple[str, str]]:
    # userxattr implies that redirects and metacopy are off, and refuses the words for it.
    more = [("redirect_dir", "off"), ("metacopy", "off")] if is_machine_root() else [("userxattr", "")]
    return [("index", "off"), *more]


def _mount_by_page(target: str, lower: list[str], upper: str, work: str) -> None:
    """Mount an overlay by mount(2). The directories are named by descriptors, whose names are short."""
    fds = [_open(path) for path in lower]
    try:
        options = "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in fds)
        if upper:
            fds += [_open(path) for path in (upper, work)]
            options += f",upperdir=/proc/self/fd/{fds[-2]},workdir=/proc/self/fd/{fds[-1]}"
        options += "".join(f",{name}={value}" if value else f",{name}" for name, value in _options())
        m.mount("overlay", target, "overlay", 0 if upper else m.MS_RDONLY, options)
    finally:
        for fd in fds:
            os.close(fd)


def _mount_one_by_one(target: str, lower: list[str], upper: str, work: str) -> None:
    """Mount an overlay by fsconfig(2), which takes the directories one by one."""

    def options() -> Iterator[tuple[str, str]]:
        named = [("lowerdir+", path) for path in lower]
        if upper:
            named += [("upperdir", upper), ("workdir", work)]
        for name, path in named:
            fd = _open(path)  # a value has at most 256 bytes, and a path may be longer
            try:
                yield name, f"/proc/self/fd/{fd}"
            finally:
                os.close(fd)
        yield from _options()

    mount_with("overlay", options(), target, 0 if upper else MOUNT_ATTR_RDONLY)


def _open(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def unmount(target: str, count: int = 1) -> None:
    """Detach the mounts at a place. Processes that use them keep them alive, but nothing new can reach them."""
    for _ in range(count):
        m.umount(target, m.MNT_DETACH)
