"""A file of a URL: where it lies, and what it is called. Light: a cached build loads this and no more."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

Report = Callable[[int, int | None], None]
"""Called with the bytes so far, and with all of them if that is known. May raise to end the transfer."""

_UNNAMED = "__unnamed__"
_FALLBACK = "download"


class Downloaded(NamedTuple):
    """A file that the store keeps. ``mtime`` is in seconds; ``directory`` holds the file."""

    directory: str
    digest: str
    mtime: int


def file_name(text: str) -> str:
    """Return the name that ADD gives to the file of a URL: the last part of its path, decoded.

    It is never empty, ``.`` or ``..``, and has no slash and no control character.
    """
    rest = text.partition("://")[2].partition("#")[0].partition("?")[0]
    path = unquote(rest.partition("/")[2], errors="surrogateescape")
    base = posixpath.basename(path.rstrip("/"))
    if base in ("", "."):
        return _UNNAMED
    base = base.strip()
    unfit = base in ("", ".", "..") or any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in base)
    return _FALLBACK if unfit or len(base.encode("utf-8", "surrogateescape")) > 255 else base
