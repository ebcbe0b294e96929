"""The messages between a builder and its supervisor (:mod:`run_step.supervisor`). Hot path: imports little."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

LENGTH = struct.Struct("!I")
"""The head of a message: its length in bytes."""

RUN, LIBRARY = b"r", b"l"
"""The kinds of requests on the control socket: a run, with its descriptors; the directory of the library that the
built-in network needs, as a message, once and before the first run that needs it."""

MOST_FDS = 250
"""Descriptors of one message; the kernel takes 253 (net/scm.h, SCM_MAX_FD)."""


def send(sock: socket.socket, value: Any) -> None:
    """Send one message, a JSON value."""
    raw = json.dumps(value).encode()
    sock.sendall(LENGTH.pack(len(raw)) + raw)


def receive(sock: socket.socket) -> bytes:
    """Return the bytes of one message. Raises EOFError when the other end has gone."""
    size = LENGTH.unpack(_exactly(sock, LENGTH.size))[0]
    return _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError("the builder went away")
        data += chunk
    return data
