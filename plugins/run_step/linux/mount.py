"""The calls mount(2), umount2(2), pivot_root(2), unshare(2), setns(2).

Constants: linux/mount.h, linux/sched.h.
"""

from __future__ import annotations

import ctypes
import os

from ._libc import call, syscall

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000
MNT_DETACH = 0x2

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_SYS_MOUNT_SETATTR = 442
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mount ``source`` at ``target``.

    See mount(2). ``fstype`` and ``data`` may be empty.
    """
    call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() or None,
        ctypes.c_ulong(flags),
        os.fsencode(data) or None,
    )


def umount(target: str, flags: int = 0) -> None:
    """Unmount ``target``.

    See umount2(2).
    """
    call("umount2", os.fsencode(target), flags)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces.

    See unshare(2).
    """
    call("unshare", flags)


def setns(fd: int, kind: int = 0) -> None:
    """Move the calling thread into the namespace ``fd``.

    See setns(2).
    """
    call("setns", fd, kind)


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root of the mount namespace, and move the old root to ``old``.

    See pivot_root(2).
    """
    syscall(
        _SYS_PIVOT_ROOT[os.uname().machine],
        f"pivot_root({new!r}, {old!r})",
        os.fsencode(new),
        os.fsencode(old),
    )


def restrict_tree(fd: int, flags: int) -> None:
    """Add ``flags`` to the mount whose root is ``fd``, and to every mount below it.

    The flags are MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC, which mean the same to mount_setattr(2).
    """
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    syscall(
        _SYS_MOUNT_SETATTR,
        f"mount_setattr({fd}, {flags:#x}, recursive)",
        ctypes.c_int(fd),
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(32),
    )
