"""Checks of every value of a request: texts that the kernel accepts, and numbers in its range.

They are made before anything is decided.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from ..documents import short
from ..errors import RequestError
from ..request import CONTAINER_ID, IDMapping, RunMount, RunRequest

LARGEST_ID = (1 << 32) - 2
_LARGEST = (1 << 63) - 1
_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte; the others do (PEP 383)."""


def check(request: RunRequest) -> None:
    """Raise RequestError for the first invalid value."""
    for place, value in _walk(request, "request"):
        if isinstance(value, str):
            _text(place, value)
        elif isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
            raise RequestError(f"{place}: {_number(value)} is out of range")
        elif isinstance(value, IDMapping):
            _mapping(place, value)
        elif isinstance(value, RunMount):
            _mount(place, value)
    if request.container_id and not CONTAINER_ID.fullmatch(request.container_id):
        raise RequestError(
            f"request.container_id: {short(request.container_id)} is not a name of letters, digits, _ . + -"
        )
    size = request.console_size
    if size is not None and not (1 <= size.width <= 65535 and 1 <= size.height <= 65535):
        raise RequestError(
            f"console size {_number(size.width)}x{_number(size.height)}: both lie between 1 and 65535"
        )


def _walk(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield every value of a tree of dataclasses and tuples, with its place."""
    yield place, value
    if dataclasses.is_dataclass(value):
        for name, item in vars(value).items():
            yield from _walk(item, f"{place}.{name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _walk(item, f"{place}[{index}]")


def _text(place: str, text: str) -> None:
    if "\0" in text:
        raise RequestError("the request has a null byte in a text; the kernel can't be given one")
    if not text.isascii() and _SURROGATE.search(text):
        raise RequestError(f"{place}: half of a surrogate pair is not valid text")


def _number(value: int) -> str:
    """Return the number for a message, or a substitute: Python refuses to write one with thousands of digits."""
    return str(value) if abs(value) <= 1 << 128 else "a number of that size"


def _mapping(place: str, item: IDMapping) -> None:
    first = min(item.container_id, item.host_id)
    if first < 0 or item.size < 1 or max(item.container_id, item.host_id) + item.size > 1 << 32:
        raise RequestError(f"{place}: the size is at least 1, and IDs lie between 0 and 4294967295")


def _mount(place: str, item: RunMount) -> None:
    for name in ("uid", "gid"):
        number = getattr(item, name)
        if number is not None and not 0 <= number <= LARGEST_ID:
            raise RequestError(
                f"{place}.{name}: {_number(number)} is not an ID: they lie between 0 and {LARGEST_ID}"
            )
