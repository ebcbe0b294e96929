"""The state of one build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..context import Context
from ..graph.step_graph import Step, StepGraph
from ..image.base_image import BaseImage
from ..options import EngineOptions
from ..store.image_store import Store
from .cancellation import Cancellation
from .content import ContentDigests
from .events import Listener
from .remote_sources import NoRemoteSources, RemoteSources
from .result import Result


@dataclass
class State:
    """The arguments of one build, and the results that it has so far.

    ``bases`` are images by the references of the graph, ``contexts`` are directories by name (the build context has
    the empty name). ``run_options`` are the options of every RUN that are part of its key; ``no_cache_stages`` are the
    numbers of stages that are not answered from the cache. ``results`` are by the ids of steps. ``remotes`` fetches
    what ADD reads from the network.
    """

    store: Store
    graph: StepGraph
    bases: Mapping[str, BaseImage]
    contexts: Mapping[str, Context]
    options: EngineOptions
    emit: Listener
    digests: ContentDigests
    run_options: Mapping[str, Any] = field(default_factory=dict)
    no_cache_stages: frozenset[int] = frozenset()
    results: dict[int, Result] = field(default_factory=dict)
    cancel: Cancellation = field(default_factory=Cancellation)
    remotes: RemoteSources = field(default_factory=NoRemoteSources)

    def parent(self, step: Step) -> Result:
        """Return the result of the step's parent, which is known."""
        assert step.parent is not None
        return self.results[step.parent]
