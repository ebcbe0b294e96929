"""Live lines on a terminal, by rich: steps that run with their last output, finished ones above them."""

from __future__ import annotations

import threading
import time

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.text import Text

from ..engine.model import Event
from ..graph import StepGraph
from ..graph.render import label
from . import usage_text

_LINES = 5


class Live:
    """See :class:`buildfront.progress.Progress`. Text from steps is shown as text: no control character of a
    build reaches the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._graph: StepGraph | None = None
        self._running: dict[int, tuple[str, float]] = {}
        self._tail: dict[int, list[str]] = {}
        self._live = RichLive(
            get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True
        )
        self._live.start()

    def _render(self) -> Group:
        with self._lock:
            rows: list[Text] = []
            for step, (title, began) in sorted(self._running.items()):
                rows.append(Text(f" => {title}  {time.monotonic() - began:.1f}s", style="cyan", no_wrap=True))
                rows += [Text(f"    {line}", style="dim", no_wrap=True) for line in self._tail.get(step, [])]
            return Group(*rows)

    def _title(self, event: Event, step: int) -> str:
        stage = label(self._graph, self._graph.step(step)) if self._graph else ""
        return f"[{stage}] {event.title}" if stage else event.title

    def __call__(self, event: Event) -> None:
        line: Text | None = None
        with self._lock:
            step = event.step
            if event.kind == "graph":
                self._graph = event.data["graph"]
            elif step is None:
                style = "yellow" if event.kind == "warning" else "dim"
                line = Text(str(event.data.get("text", "")), style=style)
            elif event.kind == "start":
                self._running[step] = (self._title(event, step), time.monotonic())
            elif event.kind == "output":
                text = event.data["bytes"].decode("utf-8", "replace").replace("\r", "\n")
                clean = [
                    "".join(c for c in part if c.isprintable()) for part in text.split("\n") if part.strip()
                ]
                self._tail[step] = [*self._tail.get(step, []), *clean][-_LINES:]
            elif event.kind == "warning":
                line = Text(f"warning: {event.data['text']}", style="yellow")
            else:
                self._running.pop(step, None)
                self._tail.pop(step, None)
                mark, style = {"cached": ("CACHED", "blue"), "done": ("DONE", "green")}.get(
                    event.kind, ("ERROR", "red")
                )
                seconds = f" {event.data['seconds']:.1f}s" if "seconds" in event.data else ""
                used = usage_text(event.data.get("usage"))
                line = Text(
                    f" {mark}{seconds} {self._title(event, step)}{used and f' ({used})'}", style=style
                )
        if line is not None:
            self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)

    def close(self) -> None:
        self._live.stop()
