"""JSON documents of images, read and written.

A document may come from anywhere, so it is checked once, when it is read: it has no more bytes, values and levels than
its reader can bear, and :class:`Fields` gives its members by type. ``what`` is the name of the document in errors, for
example ``the manifest of app:1``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..errors import BuildError
from ..text import SURROGATE
from .digest import Digest

LIMIT = 4 << 20
"""Bytes of the largest document that is read; registries and podman have the same limit."""

DEPTH = 100
"""How deeply values may be nested; no document of the specification needs ten levels."""

_PARTS = 500_000
"""Commas and brackets of a document. Each may be a value, which takes much more memory than a byte."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,18})?(?:[Zz]|[+-]\d\d:\d\d)")


def dumps(value: Any) -> bytes:
    """Return compact JSON with sorted keys, so that equal values have equal digests."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # halves of characters, from a base image: U+FFFD, as in Go
        return SURROGATE.sub("\ufffd", text).encode()


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in ``data``. Raise BuildError if it is anything else.

    No value is nested more deeply than :data:`DEPTH`, every number is finite, and every text can be encoded as UTF-8.
    """
    value = json_value(data, what)
    if not isinstance(value, dict):
        raise BuildError(f"{what} is not a JSON object")
    return value


def json_value(data: bytes, what: str) -> Any:
    """Return the JSON value in ``data``, with the same checks as :func:`json_object`."""
    if len(data) > LIMIT:
        raise BuildError(f"{what} is larger than {LIMIT >> 20} MiB")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > _PARTS:
        raise BuildError(f"{what} has too many values")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise BuildError(f"{what} has values more than {DEPTH} deep in each other") from None
    except ValueError:
        raise BuildError(f"{what} is not JSON") from None
    _check(value, what)
    return value


def _no_number(text: str) -> float:
    raise ValueError(text)


def _check(value: Any, what: str) -> None:
    layer = [value]
    for _ in range(DEPTH):
        below: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                try:
                    item.encode()
                except UnicodeEncodeError:
                    raise BuildError(f"{what} has half of a surrogate pair in a text") from None
            elif isinstance(item, float) and item in (float("inf"), float("-inf")):
                raise BuildError(f"{what} has a number that is too large")
        if not below:
            return
        layer = below
    raise BuildError(f"{what} has values more than {DEPTH} deep in each other")


class Fields:
    """The members of a JSON object, read by type. ``place`` is its path in the document, for errors.

    Methods raise BuildError if a member has another type.
    """

    def __init__(self, value: object, what: str, place: str = "") -> None:
        if not isinstance(value, dict):
            raise BuildError(f"{what}: {place or 'it'} is not an object")
        self._value: dict[str, Any] = value
        self._what = what
        self._place = place

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def wrong(self, name: str, wanted: str) -> BuildError:
        """Return the error for a member that is not ``wanted``."""
        return BuildError(f"{self._what}: {self._at(name)} is not {wanted}")

    def text(self, name: str, default: str = "") -> str:
        """Return a text, ``default`` if it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def texts(self, name: str, *, lone: bool = False) -> tuple[str, ...]:
        """Return a list of texts, empty if it is missing or null. ``lone``: a single text counts as a list of one."""
        value = self._value.get(name)
        if value is None:
            return ()
        if lone and isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of texts")
        return tuple(value)

    def pairs(self, name: str) -> dict[str, str]:
        """Return an object of texts, empty if it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(name, "an object of texts")
        return dict(value)

    def names(self, name: str) -> tuple[str, ...]:
        """Return the keys of an object whose values mean nothing, empty if it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return tuple(value)

    def number(self, name: str, default: int | None = None) -> int:
        """Return a whole number from 0 to 2^63 - 1; ``default``, if there is one, if it is missing or null."""
        value = self._value.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise self.wrong(name, "a whole number of at least 0")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, false if it is missing or null."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return bool(value)

    def digest(self, name: str) -> Digest:
        """Return a digest."""
        return Digest.parse(self._value.get(name), f"{self._what}: {self._at(name)}")

    def media_type(self, name: str, default: str = "") -> str:
        """Return a media type (RFC 6838), ``default`` if it is missing or empty."""
        value = self.text(name) or default
        if value and not _MEDIA_TYPE.fullmatch(value):
            raise self.wrong(name, "a media type")
        return value

    def time(self, name: str) -> str:
        """Return a time (RFC 3339), empty if it is missing."""
        value = self.text(name)
        if value and not _TIME.fullmatch(value):
            raise self.wrong(name, "a time of RFC 3339")
        return value

    def object(self, name: str) -> Fields:
        """Return an object, empty if it is missing or null."""
        value = self._value.get(name)
        return Fields({} if value is None else value, self._what, self._at(name))

    def objects(self, name: str, most: int) -> Iterator[Fields]:
        """Yield the objects of a list, none if it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        if len(value) > most:
            raise BuildError(
                f"{self._what}: {self._at(name)} has {len(value)} entries, and {most} are the limit"
            )
        for number, item in enumerate(value):
            yield Fields(item, self._what, f"{self._at(name)}[{number}]")

    def has(self, name: str) -> bool:
        """Whether there is such a member, and it is not null."""
        return self._value.get(name) is not None
