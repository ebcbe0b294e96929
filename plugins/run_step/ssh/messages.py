"""The messages between a client and an SSH agent (draft-miller-ssh-agent): framing, and two requests.

Pure: bytes in, bytes out. It knows neither keys nor sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

REQUEST_IDENTITIES = 11
SIGN_REQUEST = 13
FAILURE = b"\x05"
ANSWERS = {REQUEST_IDENTITIES: 12, SIGN_REQUEST: 14}
"""The requests that only use keys, and the kind of the answer to each; all others change an agent."""
LONGEST = 256 << 10
"""The limit for a message in bytes, the same as OpenSSH's."""
RSA_SHA2_256 = 2
RSA_SHA2_512 = 4

_UINT32 = struct.Struct("!I")


class MalformedMessage(ValueError):
    """Data that is not a message of the protocol."""


class Reader:
    """A splitter of a stream into messages, one after the other.

    It says how many bytes it wants and is given no more. The bytes of the next message stay with the sender
    until this one is handled, so no client can make us keep more than one.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._size = _UINT32.size
        self._in_head = True

    @property
    def wanted(self) -> int:
        """Return how many bytes may be fed, at least one."""
        return self._size - len(self._data)

    @property
    def begun(self) -> bool:
        """Whether a part of a message has been read, but not all of it."""
        return bool(self._data) or not self._in_head

    def feed(self, data: bytes) -> bytes | None:
        """Take at most ``wanted`` bytes; return a message (kind and contents) when it is complete.

        Raises MalformedMessage for an invalid length: nothing that follows it can be understood.
        """
        self._data += data
        if self.wanted:
            return None
        taken = bytes(self._data)
        self._data.clear()
        if self._in_head:
            (size,) = _UINT32.unpack(taken)
            if not 1 <= size <= LONGEST:
                raise MalformedMessage(f"a message of {size} bytes; it has 1 to {LONGEST}")
            self._size, self._in_head = size, False
            return None
        self._size, self._in_head = _UINT32.size, True
        return taken


def framed(message: bytes) -> bytes:
    """Return the message with its length before it, as it is sent."""
    return _UINT32.pack(len(message)) + message


def string(data: bytes) -> bytes:
    """Return the data as a string of the protocol (RFC 4251, section 5)."""
    return _UINT32.pack(len(data)) + data


def mpint(value: int) -> bytes:
    """Return a non-negative integer as an mpint of the protocol (RFC 4251, section 5)."""
    # The first bit is the sign: one more byte than the value needs, if that bit would be set.
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


def strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Return the first ``count`` strings of ``data``, and the rest. Raises MalformedMessage."""
    found = []
    for _ in range(count):
        if len(data) < _UINT32.size:
            raise MalformedMessage("it ends where a string should begin")
        end = _UINT32.size + int(_UINT32.unpack_from(data)[0])
        if len(data) < end:
            raise MalformedMessage("it ends inside a string")
        found.append(data[_UINT32.size : end])
        data = data[end:]
    return found, data


def parse_sign_request(message: bytes) -> tuple[bytes, bytes, int]:
    """Return the public key, the data to sign, and the flags. Raises MalformedMessage."""
    (key, data), rest = strings(message[1:], 2)
    if len(rest) != _UINT32.size:
        raise MalformedMessage("a request to sign has a key, data and flags, and nothing else")
    return key, data, _UINT32.unpack(rest)[0]


def check(message: bytes) -> None:
    """Raise MalformedMessage if the contents of one of the two requests are invalid.

    Some agents crash at such a message, so it must not reach them.
    """
    if message[0] == SIGN_REQUEST:
        parse_sign_request(message)
    elif message[0] == REQUEST_IDENTITIES and len(message) != 1:
        raise MalformedMessage("a request for the identities has no contents")


def identities_answer(keys: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the answer that lists pairs (public key, comment)."""
    listed = [string(blob) + string(comment) for blob, comment in keys]
    return bytes((ANSWERS[REQUEST_IDENTITIES],)) + _UINT32.pack(len(listed)) + b"".join(listed)


def sign_answer(signature: bytes) -> bytes:
    """Return the answer that carries a signature."""
    return bytes((ANSWERS[SIGN_REQUEST],)) + string(signature)
