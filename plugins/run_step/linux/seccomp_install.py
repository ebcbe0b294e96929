"""Install a compiled seccomp filter (seccomp(2)). Hot path: imports little. Constants: linux/seccomp.h."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from ._libc import syscall
from .process import prctl

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "ppc64le": 358, "s390x": 348}
_SET_MODE_FILTER = 1
_FLAGS = {"TSYNC": 1, "LOG": 2, "SPEC_ALLOW": 4}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(program: bytes, flags: Sequence[str] = ()) -> None:
    """Install BPF in the calling thread; needs no_new_privs or CAP_SYS_ADMIN. Raises OSError.

    ``flags`` are names of the OCI specification (SECCOMP_FILTER_FLAG_LOG and so on).
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    loaded = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    bits = sum(_FLAGS[name.removeprefix("SECCOMP_FILTER_FLAG_")] for name in set(flags))
    if not bits:
        prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(loaded))
        return
    syscall(
        _SYS_SECCOMP[os.uname().machine],
        f"seccomp(SET_MODE_FILTER, {', '.join(flags)})",
        ctypes.c_uint(_SET_MODE_FILTER),
        ctypes.c_uint(bits),
        ctypes.byref(loaded),
    )
