"""The grammars that several options share: sizes, and lists of ``key=value``. Pure functions of text."""

from __future__ import annotations

import re

from .errors import RequestError

_SIZE = re.compile(r"(\d{1,19}(?:\.\d{0,9})?|\.\d{1,9}) ?(?:([kmgtp])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE)
_MOST = (1 << 63) - 1
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(text: str, what: str = "size") -> int:
    """Return the number of bytes of a size such as ``64m``, ``1.5g``, ``1KiB`` or ``4096``.

    The grammar is that of docker (docker/go-units, ``RAMInBytes``): a decimal number, at most one space, and one of
    the units b, k, m, g, t and p in either case, with or without ``b`` or ``ib`` after it. All units are binary. What
    a fraction leaves of a byte is dropped. ``what`` is what the error message calls the value.

    Docker reads other forms of numbers too (``+5``, ``1e3``), but none that is surrounded by blanks, which are ignored
    here. Raises RequestError that quotes ``text``, also for a size of 2⁶³ bytes and more.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise RequestError(f"{what} {text!r}: a number with an optional unit b, k, m, g, t or p is wanted")
    whole, _, fraction = match[1].partition(".")
    unit = _UNITS[(match[2] or "").lower()]
    parts: int = 10 ** len(fraction)
    size = int(whole or "0") * unit + int(fraction or "0") * unit // parts
    if size > _MOST:
        raise RequestError(f"{what} {text!r}: it is larger than {_MOST} bytes")
    return size


def size_text(size: float, *, decimal: bool = False) -> str:
    """Return a number of bytes for a person to read, as docker prints it: ``12.43MiB``, or ``13MB`` with ``decimal``.

    Docker prints memory in binary units with four digits, images and data in decimal ones with three (docker/go-units,
    ``BytesSize`` and ``HumanSize``).
    """
    step, digits = (1000, 3) if decimal else (1024, 4)
    units = ("B", "kB", "MB", "GB", "TB") if decimal else ("B", "KiB", "MiB", "GiB", "TiB")
    value = float(size)
    unit = 0
    while unit < len(units) - 1 and float(f"{value:.{digits}g}") >= step:
        value /= step
        unit += 1
    number = f"{value:.{digits}g}"
    return f"{float(number):.0f}{units[unit]}" if "e" in number else f"{number}{units[unit]}"


def split_values(text: str) -> list[str]:
    """Return the parts of ``key=value,key=value``. A part that contains a comma stands in double quotes (RFC 4180).

    Raises RequestError where a quotation mark is misplaced, and for a part of more than 128 KiB.
    """
    if '"' not in text:
        return text.split(",")
    import csv  # few options have quotation marks

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise RequestError(f"{text!r}: {error}; put a whole part in double quotes") from None
