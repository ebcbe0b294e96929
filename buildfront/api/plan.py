"""The step graph of a build, and the state of its cache. Nothing runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from ..graph import StepGraph
from ..graph.render import to_dot, to_json, to_mermaid, to_text
from ..options import BuildOptions
from .prepare import prepare

PLAN_FORMATS = ("table", "json", "dot", "mermaid")


@dataclass(frozen=True)
class BuildPlan:
    """The steps of a build, and whether the cache holds their results.

    Attributes:
        graph: The stages and steps. A step's ``id`` is its number, and ``inputs`` are the numbers of the steps that it
            needs; :mod:`buildfront.graph.step_graph` describes the rest.
        cache: For each step, by its number, ``cached``, ``to do``, or ``unknown`` where that depends on the result of
            another step.
    """

    graph: StepGraph
    cache: Mapping[int, str]

    def to_json(self) -> dict[str, Any]:
        """Return the graph as JSON values, each of its steps with a key ``cache``."""
        value = to_json(self.graph)
        for step in value["steps"]:
            step["cache"] = self.cache[step["id"]]
        return value

    def render(self, form: str = "table") -> str:
        """Return the graph as a ``table``, as ``json``, or for Graphviz (``dot``) or Mermaid (``mermaid``).

        Raises BuildError for an unknown form.
        """
        if form not in PLAN_FORMATS:
            raise BuildError(
                f"unknown format {form!r}", hint=f"known are {', '.join(PLAN_FORMATS)}", status=2
            )
        if form == "json":
            return json.dumps(self.to_json(), indent=2)
        if form == "dot":
            return to_dot(self.graph)
        return to_mermaid(self.graph) if form == "mermaid" else to_text(self.graph, self.cache)


def plan(options: BuildOptions) -> BuildPlan:
    """Read the Dockerfile and return the graph of its steps, with what the cache holds. Nothing runs.

    Base images that the store lacks are pulled, as ``options.pull`` says.

    Raises:
        BuildError: The Dockerfile is wrong, or an image or file that it names can't be found.
    """
    with ExitStack() as stack:
        prepared = prepare(options, stack)
        prepared.engine.take_cached()
        results = prepared.engine.state.results
        cache = {}
        for step in prepared.graph.steps:
            ready = all(number in results for number in step.inputs)
            cache[step.id] = "cached" if step.id in results else "to do" if ready else "unknown"
        return BuildPlan(prepared.graph, cache)
