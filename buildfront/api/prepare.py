"""A build made ready: the Dockerfile read, the base images found, the graph made. Nothing has run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..context import Context
from ..context.base_images import resolve
from ..context.directory import Source, named_directory, open_source
from ..context.named import named_context
from ..context.origin import Places
from ..context.remote import Remote
from ..context.workplace import Workplace
from ..dockerfile import parse
from ..engine.events import Event, Listener
from ..engine.fetching import Fetching
from ..engine.ops.run_checks import network_not_allowed
from ..engine.walk import Engine
from ..errors import BuildError
from ..graph import GraphOptions, StepGraph, build_graph, references
from ..graph.git_reference import is_web, parse_git_reference
from ..graph.step_graph import CopyOp
from ..image import platform as platforms
from ..image import reference as image_reference
from ..image.base_image import BaseImage
from ..options import BuildOptions
from ..store.image_store import Store
from .run_options import open_agents

if TYPE_CHECKING:
    from run_step.ssh import Agent


@dataclass(frozen=True)
class Prepared:
    """Everything that a build needs to run. ``local``: all files of contexts are the user's own."""

    store: Store
    source: Source
    graph: StepGraph
    bases: dict[str, BaseImage]
    contexts: dict[str, Context]
    engine: Engine
    local: bool


_TRUE = ("1", "t", "T", "TRUE", "true", "True")


def silent(_: Event) -> None:
    """Ignore an event."""


def prepare(options: BuildOptions, stack: ExitStack, emit: Listener = silent) -> Prepared:
    """Read the Dockerfile, resolve its images, and make the graph. Nothing runs.

    ``stack`` closes what was opened. Raises BuildError.
    """
    for tag in options.tags:
        image_reference.parse(tag)
    platform = platforms.normalise(options.platform) if options.platform else platforms.host()
    store = stack.enter_context(Store(options.root))
    for text in store.take_warnings():
        emit(Event("warning", data={"text": text, "line": 0}))
    workplace = Workplace(store)
    stack.callback(workplace.close)
    remote = Remote(workplace, secrets=options.secrets, agents=_agents(options), fresh=options.no_cache)
    stack.callback(remote.close)
    places = Places(
        workplace,
        remote,
        keep_git_dir=options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in _TRUE,
        commit_times=bool(options.build_args.get("SOURCE_DATE_EPOCH")),
    )
    source = open_source(options.context, options.dockerfile, options.ignorefile, places)
    remotes = Fetching(remote)
    stack.callback(remotes.close)
    try:
        return _prepare(options, store, source, platform, places, remotes, emit)
    except BuildError as error:
        raise error.in_text(source.text) from None


def _prepare(
    options: BuildOptions,
    store: Store,
    source: Source,
    platform: str,
    places: Places,
    remotes: Fetching,
    emit: Listener,
) -> Prepared:
    instructions = parse(source.text, source.name)
    named = {name: named_context(name, value) for name, value in options.contexts.items()}
    graph_options = GraphOptions(options.build_args, options.target, platform, named, options.labels)
    bases: dict[str, BaseImage] = {}
    for name, where in references(instructions, graph_options).items():
        try:
            bases[name] = resolve(
                store,
                name,
                platform=platform,
                pull=options.pull,
                report=lambda text: emit(Event("info", data={"text": text})),
            )
        except BuildError as error:
            raise error.at(where) from None
    graph = build_graph(instructions, graph_options, {name: base.config for name, base in bases.items()})
    for place, text in graph.warnings:
        emit(Event("warning", data={"text": text, "line": place.start if place else 0}))
    contexts: dict[str, Context] = {"": source.context}
    local = source.local
    for name in _contexts_of(graph):
        if name in named and named[name].kind == "dir":
            found = places.named(named[name].value)
            contexts[name] = named_directory(found.directory)
            local = local and found.local
    _check_network(graph, options)
    emit(Event("graph", data={"graph": graph}))
    engine = Engine(store, graph, bases, contexts, options, emit, remotes)
    return Prepared(store, source, graph, bases, contexts, engine, local)


def _agents(options: BuildOptions) -> Mapping[str, Agent]:
    """Return the agents of a build. The user's own one is lent to read the contexts that are named by ssh."""
    texts = [text for text in (options.context, *options.contexts.values()) if not os.path.exists(text)]
    remotes = [git.remote for text in texts if (git := parse_git_reference(text)) is not None]
    if "default" in options.agents or all(map(is_web, remotes)) or not os.environ.get("SSH_AUTH_SOCK"):
        return options.agents
    return {**options.agents, **open_agents(("default",))}


def _contexts_of(graph: StepGraph) -> list[str]:
    """Return the names of the contexts that steps read, each once."""
    origins = [step.op.origin for step in graph.steps if isinstance(step.op, CopyOp)]
    return list(dict.fromkeys(origin.name for origin in origins if origin.kind == "context" and origin.name))


def _check_network(graph: StepGraph, options: BuildOptions) -> None:
    """Raise BuildError where a Dockerfile asks for more of the network than the options give and allow.

    What the default network gives depends on the machine: the engine looks when it has something to run.
    """
    asked = options.run_defaults.network if options.run_defaults is not None else "default"
    if asked in ("", "default", "host") or "network.host" in options.allow:
        return
    for step, op in graph.runs():
        if op.network == "host":
            raise network_not_allowed(asked).at(step.source)
