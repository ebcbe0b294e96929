"""The events of steps, told to the listeners."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ..graph.step_graph import Step
from .events import Event, Listener


class Report:
    """Tells the listeners of one build about its steps. Methods may be called by several threads."""

    def __init__(self, emit: Listener) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._began: dict[int, float] = {}
        self._usage: dict[int, Mapping[str, Any]] = {}

    def begin(self, step: Step) -> None:
        """Start to measure the time of a step; nothing is told yet."""
        self._began[step.id] = time.monotonic()

    def seconds(self, step: Step) -> float:
        """Return the seconds since the step began."""
        return time.monotonic() - self._began[step.id]

    def used(self, step: Step, usage: Mapping[str, Any]) -> None:
        """Keep what the command of a step used, for the events that follow."""
        self._usage[step.id] = usage

    def usage(self, step: Step) -> Mapping[str, Any]:
        """Return what the command of a step used; empty where there was none."""
        return self._usage.get(step.id, {})

    def cached(self, step: Step) -> None:
        """Tell that the step's result was found in the cache."""
        self._emit(Event("cached", step.id, step.title))

    def start(self, step: Step) -> None:
        """Tell that the step is carried out."""
        self._emit(Event("start", step.id, step.title))

    def output(self, step: Step, stream: str, data: bytes) -> None:
        """Tell what the step's command wrote to ``stdout`` or ``stderr``."""
        self._emit(Event("output", step.id, step.title, {"stream": stream, "bytes": data}))

    def tell(self, step: Step, text: str) -> None:
        """Tell a line about what the step is doing."""
        self.output(step, "stderr", f"{text}\n".encode())

    def done(self, step: Step) -> None:
        """Tell that the step is complete."""
        self._emit(Event("done", step.id, step.title, {"seconds": self.seconds(step), **self._more(step)}))

    def failed(self, step: Step, what: str) -> None:
        """Tell that the step failed, and why."""
        self._emit(Event("failed", step.id, step.title, {"error": what, **self._more(step)}))

    def warn(self, step: Step, warnings: Iterable[str]) -> None:
        """Tell warnings. One that is true of the machine is told once in a build, not for every step."""
        with self._lock:
            new = [text for text in warnings if text not in self._warned]
            self._warned.update(new)
        for text in new:
            self._emit(Event("warning", step.id, step.title, {"text": text}))

    def _more(self, step: Step) -> dict[str, Any]:
        return {"usage": self._usage[step.id]} if step.id in self._usage else {}
