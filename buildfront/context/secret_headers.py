"""Secrets that are sent as headers."""

from __future__ import annotations

from ..errors import BuildError


def header_value(name: str, data: bytes) -> str:
    """Return a secret as the value of a header. Raise BuildError if it can't be one."""
    try:
        value = data.decode("ascii").strip()
    except UnicodeDecodeError:
        value = ""
    if not value or not value.isprintable():
        raise BuildError(f"the secret {name} is not one line of printable characters")
    return value
