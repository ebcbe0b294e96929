"""SSH agents for a step: private keys from files, or the agent that the user has running.

An agent answers messages (draft-miller-ssh-agent). It does not know its client and refuses as little as
possible; the proxy decides what a step may ask for.
"""

from __future__ import annotations

import binascii
import os
import re
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..errors import RequestError
from . import messages
from .exchange import Exchange
from .messages import FAILURE, MalformedMessage

if TYPE_CHECKING:  # imported only when a key is loaded
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_LARGEST_FILE = 256 << 10
_LONGEST_PATH = 107  # sun_path has 108 bytes, and the last one is the null byte (unix(7))
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----(.*?)-----END \1PRIVATE KEY-----", re.DOTALL)
_OPENSSH = b"OPENSSH "
_MAGIC = b"openssh-key-v1\0"
_PUBLIC = re.compile(rb"(ssh-|ecdsa-|sk-)[!-~]+ AAAA|-{4,5} ?BEGIN (SSH2 |[A-Z]+ )?PUBLIC KEY")
_HAND_OVER = "add it to an agent with ssh-add and hand that agent over"
_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_SUPPORTED = "Ed25519, RSA and ECDSA with nistp256, nistp384 or nistp521"

Sign = Callable[[bytes, int], bytes]


class Agent(Protocol):
    """An object that holds keys and signs with them."""

    def ask(self, message: bytes) -> bytes | Exchange:
        """Return the answer to a message (its kind and contents, without a length), or an Exchange that will get it.

        Never waits. Raises OSError when the agent can't be reached. The caller closes the Exchange.
        """


class SocketAgent:
    """The agent that listens at a unix socket, usually the user's.

    Each message has its own connection, so an agent that was restarted can be used at once.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def __repr__(self) -> str:
        return f"SocketAgent({self.path!r})"

    def ask(self, message: bytes) -> Exchange:
        """Pass any message on. Raises OSError if no process listens, or the queue of connections is full."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Without blocking: if the queue is full, as with an agent that hangs, that is an error, and we
            # don't wait.
            sock.setblocking(False)
            if len(os.fsencode(self.path)) <= _LONGEST_PATH:
                sock.connect(self.path)
            else:
                fd = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
                try:
                    sock.connect(f"/proc/self/fd/{fd}")
                finally:
                    os.close(fd)
        except BaseException:
            sock.close()
            raise
        return Exchange(sock, message)


class KeyAgent:
    """An agent for the private keys in files: OpenSSH's format, or PEM (PKCS#1, PKCS#8, SEC1).

    The keys are read once. It lists them and signs; every other message is answered with a failure. Comments
    are the files' names, without directories. It can be used from several threads.

    Raises RequestError, with the path and the remedy, for a file that can't be read, needs a passphrase, is
    not a private key, or has an unsupported kind of key. Our messages never contain key material.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        keys: dict[bytes, tuple[bytes, Sign]] = {}
        for path in paths:
            blob, sign = _load(path)
            keys.setdefault(blob, (os.fsencode(os.path.basename(path)), sign))
        self._keys = keys

    def __repr__(self) -> str:
        return f"KeyAgent({len(self._keys)} keys)"

    def ask(self, message: bytes) -> bytes:
        """Return the answer; a failure if the message is malformed or unknown, or can't be signed."""
        if message == bytes((messages.REQUEST_IDENTITIES,)):
            return messages.identities_answer((blob, comment) for blob, (comment, _) in self._keys.items())
        if message[:1] != bytes((messages.SIGN_REQUEST,)):
            return FAILURE
        try:
            blob, data, flags = messages.parse_sign_request(message)
        except MalformedMessage:
            return FAILURE
        # Unknown flags ask for another kind of signature, so the answer is a failure, as the draft says.
        if blob not in self._keys or flags & ~(messages.RSA_SHA2_256 | messages.RSA_SHA2_512):
            return FAILURE
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            return messages.sign_answer(self._keys[blob][1](data, flags))
        except (ValueError, UnsupportedAlgorithm):
            return FAILURE  # the key is too short for the digest, or this machine forbids the digest


def _read(path: str) -> bytes:
    try:
        # A named pipe without a writer is at its end and not waited for; one of a shell's <(command) is
        # waited for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(fd, True)
            data = b""
            while len(data) <= _LARGEST_FILE and (chunk := os.read(fd, _LARGEST_FILE)):
                data += chunk
            return data
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or "the path has a null byte"
        raise RequestError(
            f"ssh key {path!r} can't be read: {why}; give the path of a private key, or of an agent's socket"
        ) from None


def _load(path: str) -> tuple[bytes, Sign]:
    """Return the public key and the signing function.

    Errors are raised ``from None``, because the exceptions below them may contain key material.
    """
    text = _read(path)
    found = _BLOCK.search(text)
    if len(text) > _LARGEST_FILE or found is None:
        wanted = "give the path of a file with a private key in OpenSSH's format or as PEM"
        if _PUBLIC.match(text.lstrip()):
            raise RequestError(f"ssh key {path!r} is a public key; {wanted}")
        raise RequestError(f"ssh key {path!r} is not a private key; {wanted}")
    label, block = found[1], found[0]
    kind = ""
    if label == _OPENSSH:
        cipher, kind = _openssh_head(path, found[2])
        encrypted = cipher != b"none"
    else:
        encrypted = label == b"ENCRYPTED " or b"Proc-Type: 4,ENCRYPTED" in block
    if encrypted:
        raise RequestError(f"ssh key {path!r} needs a passphrase: {_HAND_OVER}")

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form

    private: object = None
    try:
        if label == _OPENSSH:
            private = form.load_ssh_private_key(block + b"\n", None)
        else:
            private = form.load_pem_private_key(block + b"\n", None)
    except UnsupportedAlgorithm:
        pass  # an unsupported kind is reported below, as kinds that can be loaded but not used are
    except (ValueError, TypeError):
        if not kind or kind in _KINDS:
            raise _damaged(path) from None
    made = _signer(private)
    if made is None:
        name = kind or re.sub("PrivateKey$", "", type(private).__name__.lstrip("_"))
        what = "its kind" if private is None and not kind else f"the kind {name}"
        raise RequestError(
            f"ssh key {path!r} can't be served: {what} is not supported, {_SUPPORTED} are; {_HAND_OVER}"
        )
    return made


def _damaged(path: str) -> RequestError:
    return RequestError(
        f"ssh key {path!r} is damaged, or in a form that is not known; "
        f"if 'ssh-keygen -y -f' can read it, {_HAND_OVER}"
    )


def _openssh_head(path: str, body: bytes) -> tuple[bytes, str]:
    """Return the cipher and the kind of a key, readable even if it is encrypted (PROTOCOL.key of OpenSSH)."""
    try:
        raw = binascii.a2b_base64(body)
        if not raw.startswith(_MAGIC):
            raise MalformedMessage("another format")
        (cipher, _, _), rest = messages.strings(raw[len(_MAGIC) :], 3)
        (public,), _ = messages.strings(rest[4:], 1)
        (kind,), _ = messages.strings(public, 1)
    except (binascii.Error, MalformedMessage):
        raise _damaged(path) from None
    return cipher, kind.decode("ascii", "replace")


def _signer(private: object) -> tuple[bytes, Sign] | None:
    """Return the encoded public key and the signing function; None for an unsupported kind of key."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    sign: Sign | None = None
    if isinstance(private, Ed25519PrivateKey):
        sign = _ed25519(private)
    elif isinstance(private, RSAPrivateKey):
        sign = _rsa(private)
    elif isinstance(private, EllipticCurvePrivateKey):
        sign = _ecdsa(private)
    else:
        return None
    if sign is None:
        return None
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return binascii.a2b_base64(line.split()[1]), sign


def _ed25519(private: Ed25519PrivateKey) -> Sign:
    """Return the signing function of RFC 8709, section 6."""

    def sign(data: bytes, flags: int) -> bytes:
        return messages.string(b"ssh-ed25519") + messages.string(private.sign(data))

    return sign


def _rsa(private: RSAPrivateKey) -> Sign:
    """Return the signing function of RFC 4253, section 6.6, and RFC 8332, section 3."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    def sign(data: bytes, flags: int) -> bytes:
        digest: hashes.HashAlgorithm
        if flags & messages.RSA_SHA2_256:  # if both are asked for, OpenSSH chooses this one too
            name, digest = b"rsa-sha2-256", hashes.SHA256()
        elif flags & messages.RSA_SHA2_512:
            name, digest = b"rsa-sha2-512", hashes.SHA512()
        else:
            name, digest = b"ssh-rsa", hashes.SHA1()
        return messages.string(name) + messages.string(private.sign(data, PKCS1v15(), digest))

    return sign


def _ecdsa(private: EllipticCurvePrivateKey) -> Sign | None:
    """Return the signing function of RFC 5656, section 3.1.2; None for a curve that has no name in SSH."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    curves: dict[str, tuple[bytes, hashes.HashAlgorithm]] = {
        "secp256r1": (b"ecdsa-sha2-nistp256", hashes.SHA256()),
        "secp384r1": (b"ecdsa-sha2-nistp384", hashes.SHA384()),
        "secp521r1": (b"ecdsa-sha2-nistp521", hashes.SHA512()),
    }
    if private.curve.name not in curves:
        return None
    name, digest = curves[private.curve.name]

    def sign(data: bytes, flags: int) -> bytes:
        r, s = decode_dss_signature(private.sign(data, ECDSA(digest)))
        return messages.string(name) + messages.string(messages.mpint(r) + messages.mpint(s))

    return sign
