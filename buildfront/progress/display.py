"""The displays by name, and the one that starts when it is needed."""

from __future__ import annotations

import sys
import threading
from typing import Protocol

from ..engine.events import Event
from ..errors import BuildError
from ..text import visible
from .plain import Plain
from .rawjson import RawJson
from .tty import Live

MODES = ("auto", "tty", "plain", "rawjson", "quiet")


class Progress(Protocol):
    """Receives events from any thread. ``close`` is called once, at the end."""

    def __call__(self, event: Event) -> None:
        """Show an event."""

    def close(self) -> None:
        """Finish the display."""


class Quiet:
    """Prints nothing."""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        return None

    def close(self) -> None:
        """Finish the display."""
        return None


class OnDemand:
    """Prints plain lines for cached steps, and starts the live display (and imports rich) with the first that runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: Progress | None = None
        self._graph: Event | None = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        with self._lock:
            if self._live is None:
                if event.kind == "graph":
                    self._graph = event
                    return
                if event.kind == "cached":
                    sys.stderr.write(f" CACHED {visible(event.title)}\n")
                    return
                self._live = Live()
                if self._graph is not None:
                    self._live(self._graph)
        self._live(event)

    def close(self) -> None:
        """Finish the display."""
        if self._live is not None:
            self._live.close()


def create(mode: str) -> Progress:
    """Return the display for a mode: ``auto`` is live lines on a terminal and plain text elsewhere.

    Raises BuildError for an unknown mode.
    """
    if mode not in MODES:
        raise BuildError(f"unknown progress {mode!r}", hint=f"known are {', '.join(MODES)}", status=2)
    if mode == "quiet":
        return Quiet()
    if mode == "rawjson":
        return RawJson(sys.stderr)
    if mode == "tty" or (mode == "auto" and sys.stderr.isatty()):
        return OnDemand()
    return Plain(sys.stderr)
