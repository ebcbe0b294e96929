"""The calls fsopen(2), fsconfig(2), fsmount(2) and move_mount(2): a mount whose options are given one by one.

mount(2) takes all options in one page. Constants: linux/mount.h.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from ._libc import syscall

MOUNT_ATTR_RDONLY = 0x1

_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 429, 430, 431, 432
_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_AT_FDCWD = -100


def mount_with(fstype: str, options: Iterable[tuple[str, str]], target: str, attributes: int = 0) -> None:
    """Mount a filesystem with these options at ``target``; an option with an empty value is a flag.

    Raise OSError: ENOSYS where the kernel lacks the calls (before Linux 5.2), EINVAL for an unknown option.
    """
    context = syscall(_SYS_FSOPEN, "fsopen", fstype.encode(), _FSOPEN_CLOEXEC)
    try:
        for name, value in options:
            kind = _FSCONFIG_SET_STRING if value else _FSCONFIG_SET_FLAG
            data = os.fsencode(value) if value else None
            syscall(_SYS_FSCONFIG, f"fsconfig({name})", context, kind, name.encode(), data, 0)
        syscall(_SYS_FSCONFIG, "fsconfig(create)", context, _FSCONFIG_CMD_CREATE, None, None, 0)
        made = syscall(_SYS_FSMOUNT, "fsmount", context, _FSMOUNT_CLOEXEC, ctypes.c_uint(attributes))
    finally:
        os.close(context)
    try:
        place = (_AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
        syscall(_SYS_MOVE_MOUNT, "move_mount", made, b"", *place)
    finally:
        os.close(made)
