"""A build made ready: the Dockerfile read, the base images found, the graph made. Nothing has run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from ..context import Context
from ..context.base_images import resolve
from ..context.directory import Source, named_directory, open_source
from ..context.origin import Places
from ..dockerfile import parse
from ..dockerfile.instructions import From, Instruction
from ..dockerfile.lint import LintFinding, lint
from ..dockerfile.lint.check_settings import BUILD_ARG, settings_of
from ..engine.events import Event, Listener
from ..engine.fetching import Fetching
from ..engine.ops.run_checks import check_allowed
from ..engine.ops.run_request import DEFAULTS
from ..engine.walk import Engine
from ..errors import BuildError, SourceRange, closest
from ..graph import GraphOptions, StepGraph, build_graph, references
from ..graph.settings import HOSTNAME
from ..graph.step_graph import CopyOp
from ..image import reference as image_reference
from ..image.base_image import BaseImage
from ..options import BuildOptions
from ..store.image_store import Store
from .build_findings import lint_options_of, refuse_findings
from .graph_options import graph_options_of, platform_of
from .places import places_of


@dataclass(frozen=True)
class Prepared:
    """Everything that a build needs to run.

    ``local``: all files of contexts are the user's own. ``findings`` are those of a check of the stages that are built.
    """

    store: Store
    source: Source
    graph: StepGraph
    bases: dict[str, BaseImage]
    contexts: dict[str, Context]
    engine: Engine
    local: bool
    findings: tuple[LintFinding, ...] = ()


def silent(_: Event) -> None:
    """Ignore an event."""


def prepare(options: BuildOptions, stack: ExitStack, emit: Listener = silent) -> Prepared:
    """Read the Dockerfile, resolve its images, and make the graph. Nothing runs.

    ``stack`` closes what was opened. Raises BuildError.
    """
    for tag in options.tags:
        image_reference.parse(tag)
    platform_of(options)  # a malformed one is told before anything is opened
    store = stack.enter_context(Store(options.root))
    for text in store.take_warnings():
        emit(Event("warning", data={"text": text, "line": 0}))
    places, remote = places_of(options, store, stack)
    source = open_source(options.context, options.dockerfile, options.ignorefile, places)
    remotes = Fetching(remote)
    stack.callback(remotes.close)
    try:
        return _prepare(options, store, source, places, remotes, emit)
    except BuildError as error:
        raise error.in_text(source.text) from None


def _prepare(
    options: BuildOptions,
    store: Store,
    source: Source,
    places: Places,
    remotes: Fetching,
    emit: Listener,
) -> Prepared:
    options = _with_hostname(options)
    settings_of(source.text, source.name, options.build_args.get(BUILD_ARG))
    instructions = parse(source.text, source.name)
    graph_options = graph_options_of(options)
    named = graph_options.contexts
    bases = _bases(instructions, graph_options, options, store, emit)
    configs = {name: base.config for name, base in bases.items()}
    graph = build_graph(instructions, graph_options, configs)
    known = lint_options_of(graph_options, configs)
    known = replace(known, all_stages=False, ignore=source.context.ignore)
    found = lint(source.text, source.name, known, instructions)
    refuse_findings(found)
    for where, text in graph.warnings:
        emit(Event("warning", data={"text": text, "line": where.start if where else 0}))
    contexts: dict[str, Context] = {"": source.context}
    local = source.local
    for name in _contexts_of(graph):
        if name in named and named[name].kind == "dir":
            place = places.named(named[name].value)
            contexts[name] = named_directory(place.directory)
            local = local and place.local
    check_allowed(graph, options)
    emit(Event("graph", data={"graph": graph}))
    engine = Engine(store, graph, bases, contexts, options, emit, remotes)
    return Prepared(store, source, graph, bases, contexts, engine, local, found.findings)


def _with_hostname(options: BuildOptions) -> BuildOptions:
    """Return the options with the hostname that a build argument for the builder gives."""
    name = options.build_args.get(HOSTNAME)
    defaults = options.run_defaults or DEFAULTS
    if not name or defaults.hostname:
        return options
    return replace(options, run_defaults=replace(defaults, hostname=name))


def _contexts_of(graph: StepGraph) -> list[str]:
    """Return the names of the contexts that steps read, each once."""
    origins = [step.op.origin for step in graph.steps if isinstance(step.op, CopyOp)]
    return list(dict.fromkeys(origin.name for origin in origins if origin.kind == "context" and origin.name))


def _bases(
    instructions: tuple[Instruction, ...],
    graph_options: GraphOptions,
    options: BuildOptions,
    store: Store,
    emit: Listener,
) -> dict[str, BaseImage]:
    """Return the images that the build needs. One found may have ONBUILD triggers that read more of them."""
    bases: dict[str, BaseImage] = {}
    while True:
        configs = {name: base.config for name, base in bases.items()}
        found = references(instructions, graph_options, configs)
        missing = {key: wanted for key, wanted in found.items() if key not in bases}
        if not missing:
            return bases
        for key, (name, platform, where) in missing.items():
            try:
                bases[key] = resolve(
                    store,
                    name,
                    platform=platform,
                    exact=graph_options.platform_given or platform != graph_options.platform,
                    pull=options.pull,
                    report=lambda text: emit(Event("info", data={"text": text})),
                )
            except BuildError as error:
                hint = _stage_meant(name, where, instructions) or error.hint
                raise BuildError(error.what, where=where, hint=hint, status=error.status) from None


def _stage_meant(name: str, where: SourceRange, instructions: tuple[Instruction, ...]) -> str:
    """Return a question for an image that can't be had and is called almost as a stage, or as a later one."""
    stages = {item.name: item.source for item in instructions if isinstance(item, From) and item.name}
    if name.lower() in stages:
        place = stages[name.lower()]
        later = "this one" if place == where else f"the one of line {place.start}"
        return f"a stage can only read stages above it, and {later} is called {name.lower()}"
    found = closest(name, tuple(stages))
    return f"did you mean the stage {found}?" if found else ""
