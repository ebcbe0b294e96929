"""One JSON object a line (docs/cli.md, "rawjson"): for programs."""

from __future__ import annotations

import codecs
import json
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

from ..engine.events import Event
from ..graph.render import to_json
from .streams import decoder


class RawJson:
    """See :class:`buildfront.progress.display.Progress`."""

    printed = None

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._decoders: dict[tuple[int | None, str], codecs.IncrementalDecoder] = {}

    def __call__(self, event: Event) -> None:
        """Show an event."""
        with self._lock:
            data = dict(event.data)
            if event.kind == "graph":
                data = {"graph": to_json(event.data["graph"])}
            elif event.kind == "output":
                key = event.step, str(data["stream"])
                if key not in self._decoders:
                    self._decoders[key] = decoder()
                data["text"] = self._decoders[key].decode(data.pop("bytes"))
                if not data["text"]:
                    return  # the beginning of a character
            elif event.kind in ("done", "failed"):
                self._end(event)
            self._tell(event.kind, event, data)

    def _end(self, event: Event) -> None:
        """Tell the character that a step began and never ended."""
        for stream in ("stdout", "stderr"):
            held = self._decoders.pop((event.step, stream), None)
            if held is not None and (text := held.decode(b"", True)):
                self._tell("output", event, {"stream": stream, "text": text})

    def _tell(self, kind: str, event: Event, data: Mapping[str, Any]) -> None:
        line = {"time": round(time.time(), 6), "event": kind}
        if event.step is not None:
            line |= {"step": event.step, "title": event.title}
        self._out.write(json.dumps({**line, **data}) + "\n")

    def close(self) -> None:
        """Finish the display."""
        self._out.flush()
