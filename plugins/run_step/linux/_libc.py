"""The C library, and the functions by which it is called."""

from __future__ import annotations

import ctypes
import os
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: Any) -> int:
    """Call ``name`` of the C library. Raises OSError(errno) with the call's arguments when it returns -1."""
    result: int = getattr(libc, name)(*args)
    if result == -1:
        error = ctypes.get_errno()
        shown = ", ".join(repr(a.value if isinstance(a, ctypes._SimpleCData) else a) for a in args)
        raise OSError(error, f"{os.strerror(error)}: {name}({shown})")
    return result


def syscall(number: int, label: str, *args: Any) -> int:
    """Make a system call that the C library may not wrap. Raises OSError like :func:`call`."""
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(number), *args)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{os.strerror(error)}: {label}")
    return result
