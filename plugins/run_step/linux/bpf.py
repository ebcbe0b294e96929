"""A few instructions of classic BPF in front of a seccomp filter (linux/filter.h, linux/seccomp.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP = 0x05  # BPF_JMP | BPF_JA
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NUMBER, _ARCHITECTURE = 0, 4  # struct seccomp_data
_X32 = 0x40000000
"""The bit of the calls of x32 programs, which have the architecture x86_64 too (asm/unistd.h)."""


def _instruction(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k)


def unknown_calls(
    token: int, last: int, action: int, own: Mapping[int, int], last_x32: int | None = None
) -> bytes:
    """Return instructions to put before a filter, for calls that the filter does not know.

    On the architecture ``token`` (AUDIT_ARCH), a call in ``own`` gets its action, and a call above ``last``
    gets ``action``. Calls of x32 have their own numbers; they are checked if ``last_x32`` is given. For all
    other calls the filter decides.
    """
    tests = b"".join(
        _instruction(_IF_EQUAL, number, 0, 1) + _instruction(_RETURN, what)
        for number, what in sorted(own.items())
    )
    tests += _instruction(_IF_GREATER, last, 0, 1) + _instruction(_RETURN, action)
    count = len(tests) // 8
    x32 = b""
    if last_x32 is not None:
        x32 = _instruction(_IF_GREATER, _X32 | last_x32, 0, 1) + _instruction(_RETURN, action)
    wide = len(x32) // 8
    return b"".join(
        (
            _instruction(_LOAD, _ARCHITECTURE),
            _instruction(_IF_EQUAL, token, 1, 0),
            _instruction(_JUMP, count + wide + 3),
            _instruction(_LOAD, _NUMBER),
            _instruction(_IF_AT_LEAST, _X32, 0, 1 + wide),
            x32,
            _instruction(_JUMP, count),
            tests,
        )
    )
