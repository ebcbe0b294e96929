"""Whether the step has a terminal (row S18)."""

from __future__ import annotations

from ..errors import HostError, RequestError
from ..host import HostFacts
from ..planning import Draft
from ..request import RunRequest


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """A build captures the output, so ``default`` means no terminal until the relay can give one."""
    if request.terminal not in ("default", "with", "without"):
        raise RequestError(f"terminal {request.terminal!r}: known are default, with, without")
    if request.terminal == "with":
        raise HostError("a terminal for a RUN step is not built yet; use 'without'")
    draft.process["terminal"] = False
