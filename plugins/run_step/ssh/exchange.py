"""Messages over a socket that never blocks: written as there is room, read as they come.

It doesn't know what they mean, and waits for nothing: whoever uses it has a selector.
"""

from __future__ import annotations

import socket

from . import messages
from .messages import Reader

_CHUNK = 1 << 16


class Exchange:
    """One message on its way to an agent behind a socket, and the answer on its way back. Never blocks.

    The socket is ours from now on.
    """

    def __init__(self, sock: socket.socket, message: bytes) -> None:
        self._sock = sock
        self._left = messages.framed(message)
        self._reader = Reader()
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def sending(self) -> bool:
        """It waits for room in the socket; otherwise for something to read."""
        return bool(self._left)

    def advance(self) -> bytes | None:
        """Do what can be done now; the answer when it is complete.

        Raises OSError, EOFError or MalformedMessage when none can come any more.
        """
        if self._left:
            self._left = send(self._sock, self._left)
        return None if self._left else receive(self._sock, self._reader)

    def close(self) -> None:
        """Give the answer up, or be done with it."""
        self._sock.close()


def send(sock: socket.socket, data: bytes) -> bytes:
    """Write what there is room for; what is left. Raises OSError when nobody reads any more."""
    try:
        # A program that uses the plugin may have given SIGPIPE its deadly meaning back.
        return data[sock.send(data, socket.MSG_NOSIGNAL) :]
    except BlockingIOError:
        return data


def receive(sock: socket.socket, reader: Reader) -> bytes | None:
    """Read what is there of one message, and the message when it is complete.

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
