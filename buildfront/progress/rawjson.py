"""One JSON object a line (docs/cli.md, "rawjson"): for programs."""

from __future__ import annotations

import json
import threading
import time
from typing import TextIO

from ..engine.model import Event
from ..graph.render import to_json


class RawJson:
    """See :class:`buildfront.progress.Progress`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        data = dict(event.data)
        if event.kind == "graph":
            data = {"graph": to_json(event.data["graph"])}
        if "bytes" in data:
            data["text"] = data.pop("bytes").decode("utf-8", "replace")
        line = {"time": round(time.time(), 6), "event": event.kind}
        if event.step is not None:
            line |= {"step": event.step, "title": event.title}
        with self._lock:
            self._out.write(json.dumps(line | data) + "\n")

    def close(self) -> None:
        self._out.flush()
