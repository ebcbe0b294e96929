"""Durations as Go programs write them: ``30s``, ``1m30s``."""

from __future__ import annotations

import re

from .errors import BuildError

_DURATION = re.compile(r"(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_LONGEST_DURATION = 100

_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds, read as Go's time.ParseDuration does.

    Raises BuildError that quotes the text, and for less than a millisecond and more than 292 years.
    """
    if text == "0":
        return 0
    # Python refuses to read a very long number, and looking for its unit again from each digit would take long.
    matches = list(_DURATION.finditer(text)) if len(text) <= _LONGEST_DURATION else []
    if not matches or "".join(match[0] for match in matches) != text:
        raise BuildError(f"invalid duration {text!r}", hint="for instance 30s or 1m30s")
    total = 0
    for whole, fraction, unit in (match.groups("") for match in matches):
        total += int(whole or "0") * _UNITS[unit] + int(fraction or "0") * _UNITS[unit] // 10 ** len(fraction)
    if total >= 1 << 63:
        raise BuildError(f"the duration {text!r} is too long", hint="it is more than 292 years")
    if 0 < total < 10**6:
        raise BuildError(f"the duration {text!r} is too short", hint="one millisecond is the least")
    return total
