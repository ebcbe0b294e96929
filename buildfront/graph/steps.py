"""The steps of a graph while it is made."""

from __future__ import annotations

from ..errors import BuildError, SourceRange
from .limits import MOST_STEPS, Budget
from .scope import Scope
from .step_graph import Operation, Stage, Step


class Steps:
    """The steps so far, in the order of the Dockerfile, and the stages that are built."""

    def __init__(self, budget: Budget) -> None:
        self.steps: list[Step] = []
        self.stages: dict[int, Stage] = {}
        self.scopes: dict[int, Scope] = {}
        """The state at the end of each stage, for the stages that start from it."""
        self.budget = budget
        self._by_operation: dict[Operation, int] = {}

    def add(self, step: Step) -> int:
        """Append a step and return its id. Raises BuildError for one too many."""
        if len(self.steps) == MOST_STEPS:
            raise BuildError(f"more than {MOST_STEPS} steps are needed", where=step.source)
        self.steps.append(step)
        self._by_operation.setdefault(step.op, step.id)
        return step.id

    def shared(self, op: Operation, stage: int, title: str, source: SourceRange, parent: int | None) -> int:
        """Return the first step with this operation; one that belongs to no stage is made where there is none."""
        known = self._by_operation.get(op)
        if known is not None:
            return known
        inputs = () if parent is None else (parent,)
        return self.add(Step(len(self.steps), stage, title, source, op, parent, inputs, internal=True))
