"""Truth values as Go's strconv.ParseBool reads them, which BuildKit uses wherever a text is true or false."""

from __future__ import annotations

_VALUES = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def parse_bool(text: str) -> bool | None:
    """Return the truth value that ``text`` is, None for a text that is neither true nor false."""
    return _VALUES.get(text)
