"""The public Python API. What the command line calls is what a program calls.

    from buildfront.build import BuildOptions, build
    outcome = build(BuildOptions(context=".", tags=("app",)))
    print(outcome.image_id)

Functions raise :class:`buildfront.errors.BuildError`; it says what, where and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .engine.engine import Engine, EngineOptions, network_not_allowed
from .engine.model import BaseImage, Context, Event, Listener, Result
from .errors import BuildError, SourceRange, nearest
from .graph import GraphOptions, NamedContext, RunOp, StepGraph, build_graph, references
from .image import platform as platforms
from .image import reference as image_reference
from .image.assemble import HistoryLine, image_config
from .image.built_image import BuiltImage
from .image.descriptor import Descriptor, Layer
from .image.documents import dumps, json_object
from .image.layout_index import NamedEntry
from .image.manifest import image_manifest
from .image.media_types import CONFIG
from .resolve import resolve
from .store.image_store import Store
from .store.lookup import known, read_image

if TYPE_CHECKING:
    from run_step import RunRequest, Secret
    from run_step.ssh import Agent

    from .context.directory import DirectoryContext, Source
    from .export.output import Output
    from .store.image_store import Session


ENTITLEMENTS = ("network.host",)
"""What a Dockerfile may be allowed beyond the build's own options, as docker buildx names it."""


@dataclass(frozen=True)
class BuildOptions:
    """What to build and how. ``run`` is a RunRequest whose options every RUN gets (its command is ignored).

    ``stdin`` is a descriptor that RUN steps may read, one step at a time; none of them is answered from the cache
    then, for nobody knows what they will read. ``secrets`` and ``agents`` are what ``RUN --mount=type=secret`` and
    ``ssh`` may ask for, by id. ``compat_volumes``: what a RUN changes in a declared VOLUME is gone after it, as with
    docker's old builder and buildah, where BuildKit keeps it. ``allow`` are entitlements (:data:`ENTITLEMENTS`): a
    ``RUN --network=host`` needs ``network.host`` where ``run`` asks for another network than the host's.
    """

    context: str = "."
    dockerfile: str = ""
    ignorefile: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    platform: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)
    pull: str = "missing"
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    compression: str = "gzip"
    compression_level: int | None = None
    jobs: int = 0
    run: RunRequest | None = None
    run_step: str = "local"
    timeout: float | None = None
    stdin: int | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    compat_volumes: bool = False
    allow: tuple[str, ...] = ()
    root: str | None = None


@dataclass(frozen=True)
class BuildOutcome:
    """``image_id`` is the digest of the image config, ``digest`` that of the manifest."""

    image_id: str
    digest: str
    names: tuple[str, ...]
    size: int


@dataclass
class Prepared:
    """A build that has been read and resolved, and has not run."""

    store: Store
    source: Source
    graph: StepGraph
    bases: dict[str, BaseImage]
    contexts: dict[str, Context]
    engine: Engine
    session: Session | None


def enter_user_namespace() -> tuple[str, ...]:
    """Make an ordinary user's program root of a user namespace, which building needs; returns warnings.

    For root that may mount nothing happens; root without CAP_SYS_ADMIN enters one where it can. Call it where the
    program starts: the process must have one thread. Raises BuildError.
    """
    from run_step import HostError
    from run_step import enter_user_namespace as enter

    try:
        return enter()
    except HostError as error:
        raise BuildError(str(error)) from None


def _silent(_: Event) -> None:
    return None


def prepare(options: BuildOptions, stack: ExitStack, emit: Listener = _silent) -> Prepared:
    """Read the Dockerfile, resolve its images, make the graph. Nothing runs.

    ``stack`` closes what was opened. Raises BuildError.
    """
    from .context.directory import open_source

    for tag in options.tags:
        image_reference.parse(tag)
    platform = platforms.normalise(options.platform) if options.platform else platforms.host()
    store = stack.enter_context(Store(options.root))
    for text in store.take_warnings():
        emit(Event("warning", data={"text": text, "line": 0}))
    archive = options.context == "-" or os.path.isfile(options.context)
    session = stack.enter_context(store.session()) if archive else None
    source = open_source(options.context, options.dockerfile, options.ignorefile, session)
    try:
        return _prepare(options, store, source, platform, session, emit)
    except BuildError as error:
        raise _with_text(error, source.text) from None


def _with_text(error: BuildError, text: str) -> BuildError:
    """Lets whoever prints the error show the lines of the Dockerfile."""
    error.dockerfile = text  # type: ignore[attr-defined]
    return error


def _prepare(
    options: BuildOptions,
    store: Store,
    source: Source,
    platform: str,
    session: Session | None,
    emit: Listener,
) -> Prepared:
    from .dockerfile import parse

    instructions = parse(source.text, source.name)
    named = {name: _named_context(name, value) for name, value in options.contexts.items()}
    graph_options = GraphOptions(options.build_args, options.target, platform, named, options.labels)
    wanted = references(instructions, graph_options)
    bases: dict[str, BaseImage] = {}
    for name, where in wanted.items():
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
    contexts.update({name: _directory(value.value) for name, value in named.items() if value.kind == "dir"})
    engine_options = EngineOptions(
        jobs=options.jobs,
        no_cache=options.no_cache,
        no_cache_stages=_stages(graph, options.no_cache_filter),
        template=options.run,
        run_step=options.run_step,
        compression=options.compression,
        compression_level=options.compression_level,
        timeout=options.timeout,
        stdin=options.stdin,
        secrets=options.secrets,
        agents=options.agents,
        compat_volumes=options.compat_volumes,
        allow=options.allow,
    )
    _check_entitlements(graph, options)
    emit(Event("graph", data={"graph": graph}))
    engine = Engine(store, graph, bases, contexts, engine_options, emit)
    return Prepared(store, source, graph, bases, contexts, engine, session)


def _check_entitlements(graph: StepGraph, options: BuildOptions) -> None:
    """A Dockerfile gets no more of the network than the build's options give, unless it is allowed to. What the
    default gives depends on the machine: the engine looks when it has something to run."""
    unknown = next((name for name in options.allow if name not in ENTITLEMENTS), None)
    if unknown is not None:
        known = nearest(unknown, ENTITLEMENTS) or f"known are {', '.join(ENTITLEMENTS)}"
        raise BuildError(f"--allow {unknown}: unknown entitlement", hint=known, status=2)
    asked = options.run.network if options.run is not None else "default"
    if asked in ("", "default", "host") or "network.host" in options.allow:
        return
    for step in graph.steps:
        if isinstance(step.op, RunOp) and step.op.network == "host":
            raise network_not_allowed(asked).at(step.source)


def _directory(path: str) -> DirectoryContext:
    from .context.directory import DirectoryContext
    from .dockerfile.ignore import Ignore

    return DirectoryContext(os.path.abspath(path), Ignore(()))


def _stages(graph: StepGraph, names: tuple[str, ...]) -> frozenset[int]:
    wanted = {name.lower() for name in names}
    return frozenset(
        stage.index for stage in graph.stages if stage.name in wanted or str(stage.index) in wanted
    )


def _named_context(name: str, value: str) -> NamedContext:
    if value.startswith(("oci-layout://", "docker-image://")):
        return NamedContext("image", value)
    if value.startswith(("http://", "https://", "git://", "git@")):
        raise BuildError(f"the build context {name}={value}: URLs are not supported yet")
    if not os.path.isdir(value):
        raise BuildError(
            f"the build context {name}={value} is no directory",
            hint="the form is NAME=DIR, NAME=oci-layout://PATH or NAME=docker-image://REF",
        )
    return NamedContext("dir", value)


def build(
    options: BuildOptions,
    emit: Listener = _silent,
    finished: Callable[[Prepared, BuildOutcome], None] | None = None,
) -> BuildOutcome:
    """Build an image, put it into the store under its tags, write the outputs.

    ``finished`` is called at the end with all that is known of the build.

    Raises BuildError; the store then has at most the results of the steps that succeeded.
    """
    with ExitStack() as stack:
        prepared = prepare(options, stack, emit)
        try:
            results = prepared.engine.build()
        except BuildError as error:
            raise _with_text(error, prepared.source.text) from None
        image = assemble(prepared, results)
        outcome = _keep(prepared, image, options)
        if options.outputs:
            from .export.write import write_outputs

            write_outputs(prepared.store, options.outputs, image, outcome.names, emit)
        if finished is not None:
            finished(prepared, outcome)
        return outcome


def assemble(prepared: Prepared, results: Mapping[int, Result]) -> BuiltImage:
    """The image of the target stage. Equal results give equal bytes, however often it is built."""
    graph, stage = prepared.graph, prepared.graph.target_stage
    base = prepared.bases.get(stage.base)
    last = results[stage.last]
    layers: tuple[Layer, ...] = base.layers if base else ()
    times: list[int] = []
    if last.snapshot is not None:
        rows = list(reversed(prepared.store.catalogue.lineage(last.snapshot)))
        own = rows[len(layers) :]
        for row in own:
            if row.layer is None:
                raise BuildError(
                    "a layer of this build is missing from the store", hint="build again with --no-cache"
                )
            layers += (row.layer,)
            times.append(row.created)
    moments = iter(times)
    history = []
    for line in stage.history:
        made = line.step is not None and results[line.step].changed
        history.append(HistoryLine(line.created_by, made, next(moments, None) if made else None))
    value = image_config(
        config=stage.config,
        platform=graph.platform,
        author=stage.author,
        base=base.config if base else {},
        layers=layers,
        history=history,
        created=max(times) if times else None,
    )
    config = dumps(value)
    return BuiltImage(config, image_manifest(Descriptor.of(config, CONFIG), layers), layers)


def _keep(prepared: Prepared, image: BuiltImage, options: BuildOptions) -> BuildOutcome:
    store = prepared.store
    config, manifest = image.config_descriptor, image.manifest_descriptor
    if not (store.is_whole(config.digest, config.size) and store.is_whole(manifest.digest, manifest.size)):
        with store.session() as session:
            session.put(image.config, config.media_type)
            session.put(image.manifest, manifest.media_type)
    names = tuple(str(image_reference.parse(tag)) for tag in options.tags)
    for name in names or ("",):
        if name:
            entry = store.index.find(name)
            listed = entry is not None and entry.digest == manifest.digest
        else:
            listed = any(entry.digest == manifest.digest for entry in store.index.read())
        if not listed:
            store.index.set(name, NamedEntry.of(manifest))
    size = sum(layer.descriptor.size for layer in image.layers)
    return BuildOutcome(config.digest, manifest.digest, names, size)


def plan_cached(options: BuildOptions, stack: ExitStack) -> tuple[Prepared, dict[int, str]]:
    """The graph, and for each step ``cached``, ``to do``, or ``unknown`` (it depends on what another step gives)."""
    prepared = prepare(options, stack)
    prepared.engine.take_cached()
    notes = {}
    for step in prepared.graph.steps:
        if step.id in prepared.engine.state.results:
            notes[step.id] = "cached"
        else:
            ready = all(number in prepared.engine.state.results for number in step.inputs)
            notes[step.id] = "to do" if ready else "unknown"
    return prepared, notes


@dataclass(frozen=True)
class ImageRow:
    """One line of ``buildfront images``. ``created`` is RFC 3339; sizes are of the compressed layers. ``problem`` says
    what is wrong with an image that can't be read, whose other fields are empty then but for name and digest."""

    name: str
    image_id: str
    digest: str
    created: str
    size: int
    platform: str
    problem: str = ""


def images(root: str | None = None) -> list[ImageRow]:
    """What the store has, newest first. Raises BuildError where the store can't be read."""
    out = []
    with Store(root) as store:
        for entry in store.index.read():
            name, digest = entry.name, entry.digest
            try:
                image = read_image(store, digest)
            except BuildError as error:
                out.append(ImageRow(name, "", digest, "", 0, "", error.what))
                continue
            config = image.config
            out.append(ImageRow(name, image.image_id, digest, config.created, image.size, config.platform))
    return sorted(out, key=lambda row: row.created, reverse=True)


def inspect(name: str, root: str | None = None) -> dict[str, Any]:
    """An image's manifest and config as one JSON value. Raises BuildError for an unknown name."""
    with Store(root) as store:
        entry = known(store, name)
        digest = entry.digest
        image = read_image(store, digest)
        return {
            "name": entry.name,
            "digest": digest,
            "id": image.image_id,
            "manifest": json_object(store.read_blob(digest), f"the manifest {digest}"),
            "config": json_object(store.read_blob(image.image_id), f"the image config {image.image_id}"),
        }


def tag(name: str, new: str, root: str | None = None) -> str:
    """Give an image another name; returns the full one. Raises BuildError."""
    full = str(image_reference.parse(new))
    with Store(root) as store:
        store.index.set(full, known(store, name).annotated({}))
    return full


__all__ = [
    "BuildError",
    "BuildOptions",
    "BuildOutcome",
    "Event",
    "SourceRange",
    "build",
    "enter_user_namespace",
    "images",
    "inspect",
    "plan_cached",
    "prepare",
    "tag",
]
