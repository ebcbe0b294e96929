"""One line an event, for pipes and logs: numbered steps, their output with the time since they began."""

from __future__ import annotations

import threading
import time
from typing import TextIO

from ..engine.events import Event
from ..graph.render import places
from ..text import step_line, visible
from .streams import Lines
from .usage import usage_text

_KEPT = 1000
"""The most pieces of text that are kept for :attr:`Plain.printed`."""


class Plain:
    """A display that prints lines; see :class:`buildfront.progress.display.Progress`.

    A step's unfinished last line is held until it is complete, or longer than can be held: then it comes in pieces,
    and all but the first begin with ``…``. On a terminal a step's lines keep their colours, and everything else that
    would control it is made visible; elsewhere they pass as they are.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}
        self._lines: dict[tuple[int, str], Lines] = {}
        self._places: dict[int, str] = {}
        self._to_terminal = out.isatty()
        self._kept: list[str] | None = []

    @property
    def printed(self) -> str | None:
        """All that was printed, as long as it is short and no step ran."""
        return None if self._kept is None else "".join(self._kept)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        with self._lock:
            if event.kind == "graph":
                self._places = places(event.data["graph"])
            elif event.step is None:
                text = visible(str(event.data.get("text", "")))
                self._write(f"{'warning: ' if event.kind == 'warning' else ''}{text}\n")
            else:
                self._step(event, event.step)

    def _title(self, event: Event, step: int) -> str:
        title = visible(event.title)
        return f"[{self._places[step]}] {title}" if step in self._places else title

    def _step(self, event: Event, step: int) -> None:
        number = step + 1
        if event.kind == "start":
            self._began[step] = time.monotonic()
            self._write(f"#{number} {self._title(event, step)}\n")
        elif event.kind == "cached":
            self._write(f"#{number} {self._title(event, step)}\n#{number} CACHED\n")
        elif event.kind == "output":
            self._output(number, step, str(event.data["stream"]), event.data["bytes"])
        elif event.kind == "warning":
            self._write(f"#{number} warning: {visible(str(event.data['text']))}\n")
        elif event.kind in ("done", "failed"):
            self._flush(number, step)
            if event.kind == "done":
                used = usage_text(event.data.get("usage"))
                self._write(f"#{number} DONE {event.data['seconds']:.1f}s{used and f' ({used})'}\n")
            else:
                head = "" if step in self._began else f"#{number} {self._title(event, step)}\n"
                self._write(f"{head}#{number} ERROR: {visible(str(event.data['error']))}\n")

    def _output(self, number: int, step: int, stream: str, data: bytes) -> None:
        self._kept = None  # it has times in it, which differ from build to build
        now = time.monotonic()
        elapsed = now - self._began.get(step, now)
        if (step, stream) not in self._lines:
            self._lines[step, stream] = Lines()
        for inside, line in self._lines[step, stream].feed(data):
            self._line(f"#{number} {elapsed:.3f}", inside, line)

    def _flush(self, number: int, step: int) -> None:
        for stream in ("stdout", "stderr"):
            lines = self._lines.pop((step, stream), None)
            for inside, line in lines.end() if lines is not None else ():
                self._line(f"#{number}", inside, line)

    def _line(self, head: str, inside: bool, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        if self._to_terminal:
            text = step_line(text, colours=True)
        self._write(f"{head} {'…' if inside else ''}{text}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        if self._kept is not None:
            self._kept.append(text)
            if len(self._kept) > _KEPT:
                self._kept = None

    def close(self) -> None:
        """Finish the display."""
        self._out.flush()
