"""The walk over the graph.

First, on the caller's thread and without touching anything, every step whose result is known is taken from the
cache. Only when something has to be done, a thread is started that moves into a mount namespace of its own and
runs the rest, independent steps side by side; the caller waits for it. Other threads of the program never see
a mount.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BuildError
from ..graph.step_graph import CopyOp, RunOp, SourceOp, Step, StepGraph
from ..options import EngineOptions
from ..store.image_store import Store
from ..store.verified import is_whole
from . import cache_key
from .content import ContentDigests
from .model import BaseImage, Context, Event, Listener, Result
from .recovery import recover_sessions


@dataclass
class State:
    """What one build knows so far."""

    store: Store
    graph: StepGraph
    bases: Mapping[str, BaseImage]
    contexts: Mapping[str, Context]
    options: EngineOptions
    emit: Listener
    digests: ContentDigests
    results: dict[int, Result] = field(default_factory=dict)
    run_options: Mapping[str, Any] = field(default_factory=dict)
    no_cache_stages: frozenset[int] = frozenset()
    cancel: threading.Event = field(default_factory=threading.Event)


class Engine:
    """One build of one graph."""

    def __init__(
        self,
        store: Store,
        graph: StepGraph,
        bases: Mapping[str, BaseImage],
        contexts: Mapping[str, Context],
        options: EngineOptions,
        emit: Listener,
    ) -> None:
        run_options = cache_key.options_of(options.run_defaults) if options.run_defaults is not None else {}
        if options.stdin is not None:
            # What a step will read is not known: a part of the key that is like no other keeps it from the cache.
            run_options = {**run_options, "stdin": os.urandom(16).hex()}
        if options.compat_volumes:
            run_options = {**run_options, "compat_volumes": True}
        digests = ContentDigests(store, contexts)
        self.state = State(
            store,
            graph,
            bases,
            contexts,
            options,
            emit,
            digests,
            run_options=run_options,
            no_cache_stages=_stages(graph, options.no_cache_filter),
        )

    def build(self) -> Mapping[int, Result]:
        """The result of every step. Raises BuildError; KeyboardInterrupt cancels the steps that run."""
        if os.geteuid() == 0:  # of the machine or of a user namespace: what steps left is no ordinary user's
            self._recover()
        self.take_cached(announce=True)
        self.state.digests.save()
        if len(self.state.results) < len(self.state.graph.steps):
            self._execute()
            self.state.digests.save()
        return self.state.results

    def _recover(self) -> None:
        defaults = self.state.options.run_defaults
        runtimes = () if defaults is None or not defaults.runtime else (defaults.runtime,)
        directories = () if defaults is None else defaults.cni_plugin_dirs
        for text in recover_sessions(self.state.store, runtimes=runtimes, cni_plugin_dirs=directories):
            self.state.emit(Event("warning", data={"text": text}))

    def take_cached(self, *, announce: bool = False) -> None:
        """Fill in the results that the cache holds, as far as they can be known without running anything."""
        for step in self.state.graph.steps:
            if all(number in self.state.results for number in step.inputs):
                try:
                    result = lookup(self.state, step)
                except BuildError as error:
                    raise error.at(step.source) from None
                if result is not None:
                    self.state.results[step.id] = result
                    if announce:
                        self.state.emit(Event("cached", step.id, step.title))

    def _check_credentials(self) -> None:
        """A required secret or agent that was not given is told before a step runs, not when its turn comes."""
        certain: set[int] = set()
        for step in self.state.graph.steps:
            if step.id in self.state.results:
                continue
            if step.parent in certain or all(number in self.state.results for number in step.inputs):
                certain.add(step.id)  # it can't be answered from the cache any more
                if isinstance(step.op, RunOp) and step.op.mounts:
                    from .mounting import planned

                    try:
                        planned(step.op, self.state.options.secrets, self.state.options.agents)
                    except BuildError as error:
                        raise error.at(step.source) from None

    def _execute(self) -> None:
        if os.geteuid() != 0:
            raise BuildError(
                "an ordinary user builds as root of a user namespace, which this process has not entered",
                hint="call buildfront.enter_user_namespace() where the program starts, before it has threads",
            )
        self._check_credentials()
        failure: list[BaseException] = []
        # Waited for instead of the thread: an interrupted Thread.join counts the thread as ended.
        over = threading.Event()

        def body() -> None:
            from .work import Worker

            try:
                with self.state.store.session() as session:
                    Worker(self.state, session).run()
            except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
                failure.append(error)
            finally:
                over.set()

        thread = threading.Thread(target=body, name="buildfront-engine")
        thread.start()
        try:
            over.wait()
        except BaseException:
            self.state.cancel.set()
            over.wait()
            raise
        if failure:
            raise failure[0]


def _stages(graph: StepGraph, names: tuple[str, ...]) -> frozenset[int]:
    """The numbers of the stages that ``names`` means, by name or number."""
    wanted = {name.lower() for name in names}
    return frozenset(
        stage.index for stage in graph.stages if stage.name in wanted or str(stage.index) in wanted
    )


def lookup(state: State, step: Step) -> Result | None:
    """The cached result of a step whose inputs are known, or None when it has to be worked for."""
    op = step.op
    if isinstance(op, SourceOp):
        base = state.bases.get(op.reference)
        content = base.config_digest if base is not None else "scratch"
        key = cache_key.key_of(cache_key.components(step, "", state.graph.platform, content, {}))
        return Result(key, None, base, changed=False, cached=True)
    reads: str | Sequence[str] = ""
    if isinstance(op, CopyOp):
        found = state.digests.known(op, source_of(state, op))
        if found is None:
            return None
        reads = found
    elif isinstance(op, RunOp) and op.mounts:
        from .mounting import content as content_of

        contents = [content_of(state, mount) for mount in op.mounts]
        if None in contents:
            return None
        reads = [item for item in contents if item is not None]
    return recall(state, step, key_for(state, step, reads))


def key_for(state: State, step: Step, content: str | Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The key of a step and the parts it is made of."""
    assert step.parent is not None
    parent = state.results[step.parent].key
    parts = cache_key.components(step, parent, state.graph.platform, content, state.run_options)
    return cache_key.key_of(parts), parts


def source_of(state: State, op: CopyOp) -> Result | None:
    """The result that a COPY reads; None for a context."""
    return state.results[op.origin.step] if op.origin.kind == "step" else None


def recall(state: State, step: Step, keyed: tuple[str, dict[str, Any]]) -> Result | None:
    """What the catalogue has for this key, unless the user asked not to use it."""
    key = keyed[0]
    no_cache = state.options.no_cache or step.stage in state.no_cache_stages
    if no_cache:
        return None
    row = state.store.catalogue.step(key)
    if row is None:
        return None
    assert step.parent is not None
    parent = state.results[step.parent]
    if not row.changed:
        if parent.snapshot is not None and row.snapshot != parent.snapshot:
            return None  # the same: on other files it may have something to do
        return Result(key, parent.snapshot, parent.base, changed=False, cached=True)
    snapshot = None if row.snapshot is None else state.store.catalogue.snapshot(row.snapshot)
    if snapshot is None or not state.store.has_snapshot(snapshot.id):
        state.store.catalogue.forget_step(key)
        return None
    if parent.snapshot is not None and snapshot.parent != parent.snapshot:
        return None  # its parent ran again meanwhile: this result lies on the files of the earlier run
    if parent.snapshot is None and not state.store.has_lineage(snapshot.parent):
        # What lies below was looked at where the parent has a snapshot.
        state.store.catalogue.forget_step(key)
        return None
    if snapshot.digest is not None and not is_whole(state.store, snapshot.digest, snapshot.size):
        return None  # its layer is missing or damaged, and made again
    return Result(key, row.snapshot, None, changed=True, cached=True)


def is_default_network(options: EngineOptions) -> bool:
    """Whether the build asks for no network."""
    return options.run_defaults is None or options.run_defaults.network in ("", "default")


def network_not_allowed(mode: str) -> BuildError:
    """What RUN --network=host is told where the build's network is another one."""
    return BuildError(
        f"RUN --network=host is not allowed: the build's network is {mode}",
        hint="allow it with --allow network.host, if you trust the Dockerfile",
    )
