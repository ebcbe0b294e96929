"""What goes over the wire between a client and an SSH agent (draft-miller-ssh-agent): framing, two requests.

Pure: bytes in, bytes out. It knows neither keys nor sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

REQUEST_IDENTITIES = 11
SIGN_REQUEST = 13
FAILURE = b"\x05"
ANSWERS = {REQUEST_IDENTITIES: 12, SIGN_REQUEST: 14}
"""The requests that only use keys, and the kind of the answer to each; the others change an agent."""
LONGEST = 256 << 10
"""Bytes of a message, as OpenSSH has it."""
RSA_SHA2_256 = 2
RSA_SHA2_512 = 4

_UINT32 = struct.Struct("!I")


class MalformedMessage(ValueError):
    """What came is no message of the protocol."""


class Reader:
    """Messages out of a stream, one after the other.

    It says how many bytes it wants and is given no more: what follows a message stays with who sent it until
    that message is dealt with, so nobody can make us keep more than one.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._size = _UINT32.size
        self._in_head = True

    @property
    def wanted(self) -> int:
        """How many bytes may be fed, at least one."""
        return self._size - len(self._data)

    @property
    def begun(self) -> bool:
        """A part of a message is here, and not all of it."""
        return bool(self._data) or not self._in_head

    def feed(self, data: bytes) -> bytes | None:
        """Take at most ``wanted`` bytes; a message (kind and contents) when it is complete.

        Raises MalformedMessage for a length that none may have: nothing that follows can be understood then.
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
    """With its length before it, as it is sent."""
    return _UINT32.pack(len(message)) + message


def string(data: bytes) -> bytes:
    """The protocol's string (RFC 4251, section 5)."""
    return _UINT32.pack(len(data)) + data


def mpint(value: int) -> bytes:
    """The protocol's form of a whole number that is not negative (RFC 4251, section 5)."""
    # The first bit is the sign: a byte more than the value needs when that bit would be set.
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


def strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """The first ``count`` strings of ``data``, and what follows them. Raises MalformedMessage."""
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
    """The public key, what is to be signed, and flags. Raises MalformedMessage."""
    (key, data), rest = strings(message[1:], 2)
    if len(rest) != _UINT32.size:
        raise MalformedMessage("a request to sign has a key, data and flags, and nothing else")
    return key, data, _UINT32.unpack(rest)[0]


def check(message: bytes) -> None:
    """Raises MalformedMessage for one of the two requests whose contents are not what they have to be.

    There are agents that end at such a one, so none may reach them.
    """
    if message[0] == SIGN_REQUEST:
        parse_sign_request(message)
    elif message[0] == REQUEST_IDENTITIES and len(message) != 1:
        raise MalformedMessage("a request for the identities has no contents")


def identities_answer(keys: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The answer that lists (public key, comment)."""
    listed = [string(blob) + string(comment) for blob, comment in keys]
    return bytes((ANSWERS[REQUEST_IDENTITIES],)) + _UINT32.pack(len(listed)) + b"".join(listed)


def sign_answer(signature: bytes) -> bytes:
    """The answer that carries a signature."""
    return bytes((ANSWERS[SIGN_REQUEST],)) + string(signature)
