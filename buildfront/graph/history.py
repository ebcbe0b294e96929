"""Lines of an image's history, in the form of BuildKit's, which other programs read (docker history, scanners)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MARK = " # buildkit"
"""The end of a line whose instruction made a layer of its own; from it, programs know that RUN has no ``#(nop)``."""

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    '"': r"\"",
    "\\": r"\\",
}


def quoted(text: str) -> str:
    """Return ``text`` in double quotes, as Go's ``%q`` writes it."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted_list(words: Iterable[str]) -> str:
    """Return ``["a" "b"]``, Go's ``%q`` of a list."""
    return f"[{' '.join(map(quoted, words))}]"


def plain_list(words: Iterable[str]) -> str:
    """Return ``[a b]``, Go's ``%v`` of a list."""
    return f"[{' '.join(words)}]"


def duration(nanoseconds: int) -> str:
    """Return a time as Go writes it: ``1h30m0s``, ``2.5s``, ``500ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if nanoseconds >= size:
                return _decimal(nanoseconds, size) + unit
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    seconds = _decimal(rest, 10**9) + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = f"{part:0{len(str(unit)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def healthcheck(config: Mapping[str, Any]) -> str:
    """Return the line of a HEALTHCHECK, from its object in the image config."""
    times = [
        f"{name}:{duration(config.get(name, 0))}"
        for name in ("Interval", "Timeout", "StartPeriod", "StartInterval")
    ]
    return f"HEALTHCHECK {{Test:{plain_list(config['Test'])} {' '.join(times)} Retries:{config.get('Retries', 0)}}}"


def run(words: Iterable[str], declared: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Return the line of a RUN. All arguments are in it, with the values that the command sees."""
    shown = [f"{name}={variables.get(name, value)}" for name, value in declared.items()]
    return " ".join(["RUN", *([f"|{len(shown)}"] if shown else []), *shown, *words])
