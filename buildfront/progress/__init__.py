"""Subscribers to the engine's events: what a person or a program sees while a build goes on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from ..engine.model import Event
from ..errors import BuildError
from ..sizes import binary_size, decimal_size
from ..text import visible

MODES = ("auto", "tty", "plain", "rawjson", "quiet")


class Progress(Protocol):
    """Receives events from any thread; ``close`` is called once at the end."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None:
        """Finish the display."""


def usage_text(usage: Mapping[str, Any] | None) -> str:
    """What a RUN used, in a few words: ``cpu 0.12s, memory 3.4MiB``; empty when nothing is known."""
    if not usage:
        return ""
    parts = [f"cpu {(usage['user_us'] + usage['system_us']) / 1e6:.2f}s"]
    parts.append(f"memory {binary_size(usage.get('peak_memory') or usage['max_rss'])}")
    for key, word in (("read_bytes", "read"), ("write_bytes", "wrote")):
        if usage.get(key):
            parts.append(f"{word} {decimal_size(usage[key])}")
    return ", ".join(parts)


class Quiet:
    """Says nothing."""

    def __call__(self, event: Event) -> None:
        return None

    def close(self) -> None:
        return None


class OnDemand:
    """Plain lines for what is cached; the live display, and rich with it, comes with the first step that runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: Progress | None = None
        self._graph: Event | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._live is None:
                if event.kind == "graph":
                    self._graph = event
                    return
                if event.kind == "cached":
                    sys.stderr.write(f" CACHED {visible(event.title)}\n")
                    return
                from .tty import Live

                self._live = Live()
                if self._graph is not None:
                    self._live(self._graph)
        self._live(event)

    def close(self) -> None:
        if self._live is not None:
            self._live.close()


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
        return OnDemand()
    from .plain import Plain

    return Plain(sys.stderr)
