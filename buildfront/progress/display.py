"""The displays that a build can have, by name."""

from __future__ import annotations

import sys
import threading
from typing import Protocol

from ..engine.events import Event
from ..errors import BuildError
from ..text import visible
from .plain import Plain
from .rawjson import RawJson

MODES = ("auto", "tty", "plain", "rawjson", "quiet")


class Progress(Protocol):
    """A display of the events of a build, which may come from any thread."""

    def __call__(self, event: Event) -> None:
        """Show an event."""

    @property
    def printed(self) -> str | None:
        """All that was printed, where the same build from the cache would print the same; else None."""

    def close(self) -> None:
        """Finish the display. Called once, at the end."""


class Quiet:
    """A display that shows nothing."""

    printed = ""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        return None

    def close(self) -> None:
        """Finish the display."""
        return None


class OnDemand:
    """A live display that begins, and loads rich, with the first step that runs. Before that it prints plain lines."""

    printed = None

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
                from .tty import Live  # with rich, which a cached build does without

                self._live = Live()
                if self._graph is not None:
                    self._live(self._graph)
        self._live(event)

    def close(self) -> None:
        """Finish the display."""
        if self._live is not None:
            self._live.close()


def create_progress(mode: str = "auto") -> Progress:
    """Return a display on standard error, to be passed to :func:`build` and closed after it.

    Args:
        mode: ``tty`` is a live display, ``plain`` prints lines, ``rawjson`` prints a JSON object a line, and
            ``quiet`` prints nothing. ``auto`` is ``tty`` on a terminal and ``plain`` elsewhere.

    Raises:
        BuildError: There is no such mode. The status is 2.
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
