"""One line an event, for pipes and logs: numbered steps, their output with the time since they began."""

from __future__ import annotations

import threading
import time
from typing import TextIO

from ..engine.model import Event
from ..graph import StepGraph
from ..graph.render import label
from . import usage_text

_KEPT = 1000


class Plain:
    """See :class:`buildfront.progress.Progress`. A step's unfinished last line is held until it is complete.

    ``written`` is the text so far, of a short build; a long one's is not kept.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._graph: StepGraph | None = None
        self._began: dict[int, float] = {}
        self._partial: dict[tuple[int, str], bytes] = {}
        self.written: list[str] = []

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.kind == "graph":
                self._graph = event.data["graph"]
            elif event.step is None:
                self._write(f"{'warning: ' if event.kind == 'warning' else ''}{event.data.get('text', '')}\n")
            else:
                self._step(event, event.step)

    def _title(self, event: Event, step: int) -> str:
        if self._graph is None:
            return event.title
        found = self._graph.step(step)
        place = label(self._graph, found)
        if not found.internal:
            same = [item for item in self._graph.steps if item.stage == found.stage and not item.internal]
            place += f" {same.index(found) + 1}/{len(same)}"
        return f"[{place}] {event.title}"

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
            self._write(f"#{number} warning: {event.data['text']}\n")
        elif event.kind in ("done", "failed"):
            self._flush(number, step)
            if event.kind == "done":
                used = usage_text(event.data.get("usage"))
                self._write(f"#{number} DONE {event.data['seconds']:.1f}s{used and f' ({used})'}\n")
            else:
                self._write(f"#{number} ERROR: {event.data['error']}\n")

    def _output(self, number: int, step: int, stream: str, data: bytes) -> None:
        *lines, rest = (self._partial.pop((step, stream), b"") + data).split(b"\n")
        self._partial[step, stream] = rest
        elapsed = time.monotonic() - self._began.get(step, time.monotonic())
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r")
            self._write(f"#{number} {elapsed:.3f} {text}\n")

    def _flush(self, number: int, step: int) -> None:
        for stream in ("stdout", "stderr"):
            rest = self._partial.pop((step, stream), b"")
            if rest:
                self._write(f"#{number} {rest.decode('utf-8', 'replace')}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self.written.append(text)
        if len(self.written) > _KEPT:
            self.written.clear()

    def close(self) -> None:
        self._out.flush()
