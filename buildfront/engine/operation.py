"""The protocol of operations. Each kind of operation of the graph has one module in :mod:`buildfront.engine.ops`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..graph.step_graph import Step
from .active_build import ActiveBuild
from .result import Result
from .state import State

Reads = tuple[str, ...]
"""The digests of what an operation reads besides its parent."""


class Operation(Protocol):
    """The operation of one step.

    The engine asks :meth:`reads`, makes the step's key with :meth:`key_parts`, and asks :meth:`recall`. Where one of
    these gives None, it calls :meth:`perform`.
    """

    @property
    def step(self) -> Step:
        """The step."""

    def check(self, state: State) -> None:
        """Raise BuildError where the caller has not given what the step requires."""

    def reads(self, state: State) -> Reads | None:
        """Return the digests of what it reads; None where they can't be known without running something.

        The results of the step's inputs are known.
        """

    def key_parts(self, reads: Reads, run_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts of the step's key that this kind of operation has, by name."""

    def recall(self, state: State, key: str) -> Result | None:
        """Return the result for this key, where there is one without any work."""

    def perform(self, build: ActiveBuild) -> Result:
        """Carry it out. Raise BuildError for a failure, Cancelled when the build is to stop."""
