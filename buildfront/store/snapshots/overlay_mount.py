"""The store's own mounts, and the mount namespace that makes them end with the builder."""

from __future__ import annotations

import os

from run_step import is_machine_root
from run_step.linux import mount as m


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


def mount_overlay(target: str, lower: list[str], upper: str = "", work: str = "") -> None:
    """Mount an overlay, read-only without ``upper``. ``lower`` begins with the topmost directory.

    The directories are named by descriptors, so that a hundred of them fit into mount(2)'s one page.
    redirect_dir, metacopy and index are off: an upper directory must mean the same to every reader. In a user
    namespace the overlay keeps its marks in ``user.`` attributes; ``trusted.`` ones are for the machine's root.
    """
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in lower]
    try:
        options = "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in fds)
        if upper:
            fds += [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (upper, work)]
            options += f",upperdir=/proc/self/fd/{fds[-2]},workdir=/proc/self/fd/{fds[-1]}"
        # userxattr implies that redirects and metacopy are off, and refuses the words for it.
        options += ",index=off," + ("redirect_dir=off,metacopy=off" if is_machine_root() else "userxattr")
        m.mount("overlay", target, "overlay", 0 if upper else m.MS_RDONLY, options)
    finally:
        for fd in fds:
            os.close(fd)


def unmount(target: str) -> None:
    """Detach a mount. Processes that use it keep it alive, but nothing new can reach it."""
    m.umount(target, m.MNT_DETACH)
