"""The step's terminal and its size (row S18)."""

from __future__ import annotations

from ..errors import RequestError
from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set whether the step has a terminal; ``default`` means yes if stdin, stdout and stderr are all terminals."""
    if request.terminal not in ("default", "with", "without"):
        raise RequestError(f"terminal {request.terminal!r}: known are default, with, without")
    wanted = request.terminal == "with" or (request.terminal == "default" and host.stdio_is_terminal)
    draft.process["terminal"] = wanted
    size = request.console_size
    if size is not None:
        draft.process["consoleSize"] = {"height": size.height, "width": size.width}
