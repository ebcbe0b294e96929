"""Messages over a socket that never blocks: written as there is room, read as they arrive.

The module does not interpret them, and never waits: its users have a selector.
"""

from __future__ import annotations

import socket

from . import messages
from .messages import Reader

_CHUNK = 1 << 16


class Exchange:
    """One message on its way to an agent behind a socket, and the answer on its way back. Never blocks.

    The Exchange owns the socket from now on.
    """

    def __init__(self, sock: socket.socket, message: bytes) -> None:
        self._sock = sock
        self._left = messages.framed(message)
        self._reader = Reader()
        sock.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor of the socket, for a selector."""
        return self._sock.fileno()

    @property
    def sending(self) -> bool:
        """Whether it waits for room in the socket; otherwise it waits for data to read."""
        return bool(self._left)

    def advance(self) -> bytes | None:
        """Send or receive what is possible now; return the answer when it is complete.

        Raises OSError, EOFError or MalformedMessage when no answer can come any more.
        """
        if self._left:
            self._left = send(self._sock, self._left)
        return None if self._left else receive(self._sock, self._reader)

    def close(self) -> None:
        """Close the socket, with or without an answer."""
        self._sock.close()


def send(sock: socket.socket, data: bytes) -> bytes:
    """Write as much as there is room for; return the rest. Raises OSError when the other end is closed."""
    try:
        # A program that uses the plugin may have restored the default of SIGPIPE, which ends the process.
        return data[sock.send(data, socket.MSG_NOSIGNAL) :]
    except BlockingIOError:
        return data


def receive(sock: socket.socket, reader: Reader) -> bytes | None:
    """Read the available part of one message; return the message when it is complete.

    Raises EOFError at the end of the stream, OSError when the other end is gone, MalformedMessage.
    """
    while True:
        try:
            data = sock.recv(min(reader.wanted, _CHUNK))
        except BlockingIOError:
            return None
        if not data:
            raise EOFError("the other end has closed the connection")
        message = reader.feed(data)
        if message is not None:
            return message
