"""The table of operations: which class performs which kind of step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...graph.step_graph import CopyOp, RunOp, SourceOp, Step, WorkdirOp
from ..operation import Operation
from .copy import CopyOperation
from .run import RunOperation
from .source import SourceOperation
from .workdir import WorkdirOperation

OPERATIONS: Mapping[type[Any], Callable[[Step, Any], Operation]] = {
    SourceOp: SourceOperation,
    CopyOp: CopyOperation,
    RunOp: RunOperation,
    WorkdirOp: WorkdirOperation,
}


def operation_of(step: Step) -> Operation:
    """Return the operation of a step."""
    return OPERATIONS[type(step.op)](step, step.op)
