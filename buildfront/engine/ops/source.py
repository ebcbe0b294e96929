"""FROM: an image, or nothing.

It takes no work: the image is unpacked when a step needs its files (see :mod:`buildfront.engine.unpack`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...graph.step_graph import SourceOp, Step
from ..active_build import ActiveBuild
from ..cache_lookup import key_for
from ..operation import Reads
from ..result import Result
from ..state import State


class SourceOperation:
    """The start of a stage. Its result is always known."""

    def __init__(self, step: Step, op: SourceOp) -> None:
        self.step = step
        self.op = op

    def check(self, state: State) -> None:
        """Do nothing: the image has been resolved already."""

    def reads(self, state: State) -> Reads:
        """Return the digest of the image's config, which determines its layers."""
        base = state.bases.get(state.graph.image_key(self.op))
        return (base.config_digest if base is not None else "scratch",)

    def key_parts(self, reads: Reads, run_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the image."""
        return {"image": reads[0]}

    def recall(self, state: State, key: str) -> Result:
        """Return the image as a result."""
        return Result(key, None, state.bases.get(state.graph.image_key(self.op)), changed=False, cached=True)

    def perform(self, build: ActiveBuild) -> Result:
        """Return the image as a result."""
        state = build.state
        return self.recall(state, key_for(state, self, self.reads(state)).digest)
