"""Subscribers to the engine's events: what a person or a program sees while a build goes on."""

from __future__ import annotations

import sys
from typing import Protocol

from ..engine.model import Event
from ..errors import BuildError

MODES = ("auto", "tty", "plain", "rawjson", "quiet")


class Progress(Protocol):
    """Receives events from any thread; ``close`` is called once at the end."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None:
        """Finish the display."""


class Quiet:
    """Says nothing."""

    def __call__(self, event: Event) -> None:
        return None

    def close(self) -> None:
        return None


def create(mode: str) -> Progress:
    """``auto`` is live lines on a terminal and plain text elsewhere. Raises BuildError for an unknown mode."""
    if mode not in MODES:
        raise BuildError(f"unknown progress {mode!r}", hint=f"known are {', '.join(MODES)}", status=2)
    if mode == "quiet":
        return Quiet()
    if mode == "rawjson":
        from .rawjson import RawJson

        return RawJson(sys.stderr)
    if mode == "tty" or (mode == "auto" and sys.stderr.isatty()):
        from .tty import Live

        return Live()
    from .plain import Plain

    return Plain(sys.stderr)
