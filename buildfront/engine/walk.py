"""The engine: builds one graph.

First, on the caller's thread and without touching anything, every step whose result is known is taken from the
cache. Only when something is left to do, a thread is started that moves into a mount namespace of its own and
performs the rest, independent steps at the same time; the caller waits for it. Other threads of the program never see
a mount.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping

from ..context import Context
from ..errors import BuildError
from ..graph.step_graph import StepGraph
from ..image.base_image import BaseImage
from ..options import EngineOptions
from ..store.image_store import Store
from ..store.snapshots.overlay_mount import enter_private_namespace
from . import cache_key
from .active_build import ActiveBuild
from .cache_lookup import lookup
from .content import ContentDigests
from .events import Event, Listener
from .ops.run_checks import check_runs
from .ops.table import operation_of
from .recovery import recover_sessions
from .remote_sources import NoRemoteSources, RemoteSources, remote_sources
from .result import Result
from .scheduler import Scheduler
from .state import State

_RECEIVING = frozenset(("slave", "rslave", "shared", "rshared"))
"""The propagation modes of a volume that shows what the host mounts while the step runs."""


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
        remotes: RemoteSources | None = None,
    ) -> None:
        run_options = cache_key.options_of(options.run_defaults) if options.run_defaults is not None else {}
        if options.stdin is not None:
            # The input of a step is not known: a part that no other key has keeps it from the cache.
            run_options = {**run_options, "stdin": os.urandom(16).hex()}
        if options.compat_volumes:
            run_options = {**run_options, "compat_volumes": True}
        self.state = State(
            store,
            graph,
            bases,
            contexts,
            options,
            emit,
            ContentDigests(store, contexts),
            run_options=run_options,
            no_cache_stages=_stages(graph, options.no_cache_filter),
            remotes=remotes or NoRemoteSources(),
        )
        self.state.remotes.watch(self.state.cancel)

    def build(self) -> Mapping[int, Result]:
        """Return the result of every step. Raise BuildError; KeyboardInterrupt cancels the steps that run."""
        if os.geteuid() == 0:  # of the machine or of a user namespace: others leave nothing that needs root
            self._recover()
        self.take_cached(announce=True)
        self.state.digests.save()
        if len(self.state.results) < len(self.state.graph.steps):
            self._perform()
            self.state.digests.save()
        return self.state.results

    def take_cached(self, *, announce: bool = False) -> None:
        """Add the results that the cache holds to the state, as far as they can be known without running anything."""
        self.state.remotes.look(remote_sources(self.state.graph.steps))
        for step in self.state.graph.steps:
            if all(number in self.state.results for number in step.inputs):
                try:
                    result = lookup(self.state, operation_of(step))
                except BuildError as error:
                    raise error.at(step.source) from None
                if result is not None:
                    self.state.results[step.id] = result
                    if announce:
                        self.state.emit(Event("cached", step.id, step.title))

    def _recover(self) -> None:
        defaults = self.state.options.run_defaults
        runtimes = () if defaults is None or not defaults.runtime else (defaults.runtime,)
        directories = () if defaults is None else defaults.cni_plugin_dirs
        for text in recover_sessions(self.state.store, runtimes=runtimes, cni_plugin_dirs=directories):
            self.state.emit(Event("warning", data={"text": text}))

    def _check_given(self) -> None:
        """Raise BuildError for a required secret or agent that was not given, before a step runs."""
        certain: set[int] = set()
        results = self.state.results
        for step in self.state.graph.steps:
            if step.id in results:
                continue
            if step.parent in certain or all(number in results for number in step.inputs):
                certain.add(step.id)  # the cache can't answer it any more
                try:
                    operation_of(step).check(self.state)
                except BuildError as error:
                    raise error.at(step.source) from None

    def _perform(self) -> None:
        """Perform what is left, on a thread in a mount namespace of its own."""
        if os.geteuid() != 0:
            raise BuildError(
                "an ordinary user builds as root of a user namespace, which this process has not entered",
                hint="call buildfront.enter_user_namespace() where the program starts, before it has threads",
            )
        self._check_given()
        results = self.state.results
        self.state.remotes.begin(
            remote_sources(step for step in self.state.graph.steps if step.id not in results)
        )
        failure: list[BaseException] = []
        # Waited for instead of the thread: an interrupted Thread.join counts the thread as ended.
        over = threading.Event()

        def body() -> None:
            try:
                self._perform_here()
            except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
                failure.append(error)
            finally:
                over.set()

        thread = threading.Thread(target=body, name="buildfront-engine")
        thread.start()
        try:
            over.wait()
        except BaseException:
            self.state.cancel.stop()
            over.wait()
            raise
        if failure:
            raise failure[0]

    def _perform_here(self) -> None:
        jobs = self.state.options.jobs or max(2, os.cpu_count() or 1)
        with self.state.store.session() as session, ActiveBuild(self.state, session) as build:
            check_runs(build)
            self._enter_namespace()
            Scheduler(build, operation_of).run(jobs)
            build.layers.wait()

    def _enter_namespace(self) -> None:
        """Move this thread, and all that it starts, into a private mount namespace."""
        defaults = self.state.options.run_defaults
        volumes = () if defaults is None else (*defaults.volumes, *defaults.mounts)
        words = re.split("[:,=]", ",".join(volumes))
        try:
            enter_private_namespace(receive=not _RECEIVING.isdisjoint(words))
        except OSError:
            # No privilege to mount: the copying snapshots need none, and a step reports itself what it lacks.
            self.state.store.can_mount = False


def _stages(graph: StepGraph, names: tuple[str, ...]) -> frozenset[int]:
    """Return the numbers of the stages with these names or numbers."""
    wanted = {name.lower() for name in names}
    return frozenset(
        stage.index for stage in graph.stages if stage.name in wanted or str(stage.index) in wanted
    )
