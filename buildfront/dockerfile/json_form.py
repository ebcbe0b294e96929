"""The exec form: a JSON array of strings in place of words."""

from __future__ import annotations

from ..errors import BuildError
from ..text import SURROGATE
from .blanks import BLANKS


def json_array(text: str) -> list[str] | None:
    """Return the strings of a JSON array, or None where the text is not one and has to be read as words.

    Raises BuildError for an array of other values.
    """
    text = text.lstrip(BLANKS)
    if not text.startswith("["):
        return None
    import json

    try:
        value = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_refuse)
    except ValueError:
        return None
    except RecursionError:
        value = [None]  # arrays in arrays, which are not strings
    if not all(isinstance(item, str) for item in value):
        raise BuildError(
            f"{text}: a JSON array must hold only strings", hint="put each word in double quotes", about=text
        )
    if any("\0" in item for item in value):
        raise BuildError(
            f"{text}: a word has a null byte", hint="no argument or path can hold one", about=text
        )
    # Half of a character is none, and neither is a byte that is not UTF-8: JSON has U+FFFD for it, in BuildKit too.
    return [SURROGATE.sub("\ufffd", item) for item in value]


def _number(text: str) -> float:
    """Return a number. Raises ValueError for one that is too large, with which Go's decoder takes no array."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _refuse(text: str) -> float:
    raise ValueError(text)  # NaN and Infinity are Python's, not JSON's
