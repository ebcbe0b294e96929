"""Live lines on a terminal, by rich: steps that run with their last output, finished ones above them."""

from __future__ import annotations

import threading
import time

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.text import Text

from ..engine.events import Event
from ..graph.render import labels
from ..text import visible
from .streams import Tail
from .usage import usage_text

_LINES = 5
_TITLE = 500


class Live:
    """Prints live lines. See :class:`buildfront.progress.display.Progress`.

    Text from steps is shown as text: no control character of a build reaches the terminal.
    """

    printed = None

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._stages: dict[int, str] = {}
        self._running: dict[int, tuple[str, float]] = {}
        self._tail: dict[int, Tail] = {}
        self._live = RichLive(
            get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True
        )
        self._live.start()

    def _render(self) -> Group:
        with self._lock:
            rows: list[Text] = []
            for step, (title, began) in sorted(self._running.items()):
                rows.append(Text(f" => {title}  {time.monotonic() - began:.1f}s", style="cyan", no_wrap=True))
                rows += [Text(f"    {line}", style="dim", no_wrap=True) for line in self._lines(step)]
            return Group(*rows)

    def _title(self, event: Event, step: int) -> str:
        title = visible(event.title, _TITLE)
        return f"[{self._stages[step]}] {title}" if step in self._stages else title

    def _lines(self, step: int) -> list[str]:
        return list(self._tail[step].lines) if step in self._tail else []

    def __call__(self, event: Event) -> None:
        """Show an event."""
        line: Text | None = None
        with self._lock:
            step = event.step
            if event.kind == "graph":
                graph = event.data["graph"]
                names = labels(graph)
                self._stages = {step.id: names(step) for step in graph.steps}
            elif step is None:
                style = "yellow" if event.kind == "warning" else "dim"
                line = Text(visible(str(event.data.get("text", ""))), style=style)
            elif event.kind == "start":
                self._running[step] = (self._title(event, step), time.monotonic())
            elif event.kind == "output":
                if step not in self._tail:
                    self._tail[step] = Tail(_LINES)
                self._tail[step].feed(str(event.data["stream"]), event.data["bytes"])
            elif event.kind == "warning":
                line = Text(f"warning: {visible(str(event.data['text']))}", style="yellow")
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
        """Finish the display."""
        self._live.stop()
