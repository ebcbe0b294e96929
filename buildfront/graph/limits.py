"""The largest graph that is built, whatever the Dockerfile and the base images say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BuildError
from ..text import SURROGATE

MOST_STEPS = 10_000
"""Steps of one graph."""

LARGEST = 32 << 20
"""Characters that the steps, their environments and the history of one graph may have together.

A Dockerfile of a few lines that grows with each of them (``ENV A=$A$A``, stages upon stages) reaches any number.
"""


class Budget:
    """Counts what the graph has used of LARGEST."""

    def __init__(self) -> None:
        self._spent = 0

    def spend(self, characters: int) -> None:
        """Count ``characters``. Raises BuildError where the graph becomes larger than LARGEST."""
        self._spent += characters
        if self._spent > LARGEST:
            raise BuildError(
                f"the steps with their environment and the history come to more than {LARGEST >> 20} MiB",
                hint="does a variable grow with each line, or each stage with the one before?",
            )


def whole_characters(value: Any) -> Any:
    """Return a copy of a JSON value with U+FFFD for every lone surrogate in its strings, as Go reads JSON."""
    if isinstance(value, str):
        return value if value.isascii() else SURROGATE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {whole_characters(key): whole_characters(item) for key, item in value.items()}
    return [whole_characters(item) for item in value] if isinstance(value, list | tuple) else value


def refuse_bytes(values: Mapping[str, str], option: str) -> None:
    """Raise BuildError for a name or value that is not UTF-8, which an image config can't hold."""
    for name, value in values.items():
        text = f"{name}={value}"
        if not text.isascii() and SURROGATE.search(text):
            raise BuildError(f"{option} {text}: it is not UTF-8", hint="an image config holds nothing else")


def refuse_null_bytes(config: Mapping[str, Any], reference: str) -> None:
    """Raise BuildError for an image whose config has a null byte where a step would use it."""
    for key in ("Env", "User", "WorkingDir", "Shell", "Volumes"):
        value = config.get(key) or ()
        if any("\0" in text for text in ([value] if isinstance(value, str) else value)):
            raise BuildError(f"the config of the image {reference} has a null byte in {key}")
