"""getsockopt(2) for options that say in their buffer what is asked for, which Python's own has no way to give."""

from __future__ import annotations

import ctypes
import socket

from ._libc import call


def read_option(asked: socket.socket, level: int, option: int, buffer: bytes) -> bytes:
    """``buffer`` is handed to the kernel, and what it has made of it is returned. Raises OSError."""
    data = ctypes.create_string_buffer(buffer, len(buffer))
    size = ctypes.c_uint(len(buffer))
    call("getsockopt", asked.fileno(), level, option, data, ctypes.byref(size))
    return data.raw[: size.value]
