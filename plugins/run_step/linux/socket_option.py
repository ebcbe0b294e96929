"""getsockopt(2) with an input in its buffer, which Python's own function can't pass."""

from __future__ import annotations

import ctypes
import socket

from ._libc import call


def read_option(asked: socket.socket, level: int, option: int, buffer: bytes) -> bytes:
    """Pass ``buffer`` to the kernel, and return what the kernel has written to it. Raises OSError."""
    data = ctypes.create_string_buffer(buffer, len(buffer))
    size = ctypes.c_uint(len(buffer))
    call("getsockopt", asked.fileno(), level, option, data, ctypes.byref(size))
    return data.raw[: size.value]
