"""The challenges of a registry and the answers of its token server, read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import BuildError

_LIMIT = 16 << 10
_SPACE = re.compile(r"[ \t]*")
_WORD = re.compile(r'[^\s,="]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BARE = re.compile(r"[^\s,]+")
_PAIR = re.compile(r"\\(.)")
_TOKEN68_END = re.compile(r"=*[ \t]*(?:,|$)")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,65536}={0,16}")
_PARTS = 300_000


class Challenge(NamedTuple):
    """A way to log in. ``scheme`` and the names of ``parameters`` are in lower case."""

    scheme: str
    parameters: dict[str, str]


def challenges(headers: Sequence[str]) -> list[Challenge]:
    """Return the challenges of WWW-Authenticate headers (RFC 9110, 11.6.1), in their order.

    One header may have several. A malformed one ends its header; of parameters with one name the first counts. Raise
    BuildError if there are more than 16 KiB.
    """
    if sum(map(len, headers)) > _LIMIT:
        raise BuildError(f"the registry asks for a login in more than {_LIMIT} bytes")
    out: list[Challenge] = []
    for text in headers:
        out += _challenges(text)
    return out


def _challenges(text: str) -> list[Challenge]:
    out: list[Challenge] = []
    at, fresh = 0, False
    while at < len(text):
        if text[at] in " \t,":
            fresh = fresh and text[at] != ","
            at += 1
            continue
        word = _WORD.match(text, at)
        if word is None:
            break
        at = word.end()
        if fresh and _TOKEN68_END.match(text, at):  # as in "Negotiate YII="
            fresh, at = False, at + len(text[at:]) - len(text[at:].lstrip("="))
            continue
        equals = _skip(text, at)
        if text[equals : equals + 1] != "=":
            out.append(Challenge(word[0].lower(), {}))
            fresh = True
            continue
        start = _skip(text, equals + 1)
        quoted = _QUOTED.match(text, start)
        found = quoted or _BARE.match(text, start)
        if found is None or not out or (quoted is None and text[start] == '"'):
            break
        value = _PAIR.sub(r"\1", quoted[1]) if quoted else found[0]
        out[-1].parameters.setdefault(word[0].lower(), value)
        at, fresh = found.end(), False
    return out


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def check_extent(data: bytes, what: str) -> None:
    """Raise BuildError for a document of so many parts that reading it would fill the memory."""
    if data.count(b",") + data.count(b"{") + data.count(b"[") > _PARTS:
        raise BuildError(f"{what} has more than {_PARTS} parts")


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in ``data``. Raise BuildError if it is anything else, however deep or large."""
    check_extent(data, what)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BuildError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise BuildError(f"{what} is not a JSON object")
    return value


def read_token(data: bytes, what: str) -> str:
    """Return the token of a token server's answer. Raise BuildError if there is none (RFC 6750, 2.1)."""
    value = read_object(data, what)
    token = value.get("token") or value.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise BuildError(f"{what} holds no token")
    return token
