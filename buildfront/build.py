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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engine.engine import Engine, network_not_allowed
from .engine.model import BaseImage, Context, Event, Listener, Result
from .errors import BuildError, SourceRange, nearest
from .graph import GraphOptions, NamedContext, RunOp, StepGraph, build_graph, references
from .image import platform as platforms
from .image import reference as image_reference
from .image.assemble import HistoryLine, image_config
from .image.documents import json_object
from .image.model import CONFIG, MANIFEST, Descriptor, Layer, digest_of, dumps, image_manifest
from .options import ENTITLEMENTS, BuildOptions
from .resolve import resolve
from .store.image_store import Store
from .store.lookup import find, read_image
from .store.verified import is_whole

if TYPE_CHECKING:
    from .context.directory import DirectoryContext, Source
    from .store.image_store import Session


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
    _check_entitlements(graph, options)
    emit(Event("graph", data={"graph": graph}))
    engine = Engine(store, graph, bases, contexts, options, emit)
    return Prepared(store, source, graph, bases, contexts, engine, session)


def _check_entitlements(graph: StepGraph, options: BuildOptions) -> None:
    """A Dockerfile gets no more of the network than the build's options give, unless it is allowed to. What the
    default gives depends on the machine: the engine looks when it has something to run."""
    unknown = next((name for name in options.allow if name not in ENTITLEMENTS), None)
    if unknown is not None:
        known = nearest(unknown, ENTITLEMENTS) or f"known are {', '.join(ENTITLEMENTS)}"
        raise BuildError(f"--allow {unknown}: unknown entitlement", hint=known, status=2)
    asked = options.run_defaults.network if options.run_defaults is not None else "default"
    if asked in ("", "default", "host") or "network.host" in options.allow:
        return
    for step in graph.steps:
        if isinstance(step.op, RunOp) and step.op.network == "host":
            raise network_not_allowed(asked).at(step.source)


def _directory(path: str) -> DirectoryContext:
    from .context.directory import DirectoryContext
    from .dockerfile.ignore import Ignore

    return DirectoryContext(os.path.abspath(path), Ignore(()))


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

            write_outputs(prepared.store, options, image, outcome, emit)
        if finished is not None:
            finished(prepared, outcome)
        return outcome


@dataclass(frozen=True)
class Image:
    """An image as bytes: what is put into the store."""

    config: bytes
    manifest: bytes
    layers: tuple[Layer, ...]

    @property
    def config_descriptor(self) -> Descriptor:
        """Of the config."""
        return Descriptor(CONFIG, digest_of(self.config), len(self.config))

    @property
    def manifest_descriptor(self) -> Descriptor:
        """Of the manifest."""
        return Descriptor(MANIFEST, digest_of(self.manifest), len(self.manifest))


def assemble(prepared: Prepared, results: Mapping[int, Result]) -> Image:
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
            if row.diff_id is None or row.digest is None:
                raise BuildError(
                    "a layer of this build is missing from the store", hint="build again with --no-cache"
                )
            layers += (Layer(Descriptor(row.media_type or "", row.digest, row.size or 0), row.diff_id),)
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
    descriptor = Descriptor(CONFIG, digest_of(config), len(config))
    return Image(config, image_manifest(descriptor, layers), layers)


def _keep(prepared: Prepared, image: Image, options: BuildOptions) -> BuildOutcome:
    store = prepared.store
    config, manifest = image.config_descriptor, image.manifest_descriptor
    if not (is_whole(store, config.digest, config.size) and is_whole(store, manifest.digest, manifest.size)):
        with store.session() as session:
            session.put(image.config, config.media_type)
            session.put(image.manifest, manifest.media_type)
    names = tuple(str(image_reference.parse(tag)) for tag in options.tags)
    for name in names or ("",):
        known = store.index.find(name) if name else None
        listed = known is not None and known["digest"] == manifest.digest
        if not name:
            listed = any(item["digest"] == manifest.digest for item in store.index.read())
        if not listed:
            store.index.set(name, manifest.to_json())
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
            name = (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name", "")
            digest = str(entry["digest"])
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
        entry = _known(store, name)
        digest = str(entry["digest"])
        image = read_image(store, digest)
        return {
            "name": (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name", ""),
            "digest": digest,
            "id": image.image_id,
            "manifest": json_object(store.read_blob(digest), f"the manifest {digest}"),
            "config": json_object(store.read_blob(image.image_id), f"the image config {image.image_id}"),
        }


def tag(name: str, new: str, root: str | None = None) -> str:
    """Give an image another name; returns the full one. Raises BuildError."""
    full = str(image_reference.parse(new))
    with Store(root) as store:
        entry = _known(store, name)
        store.index.set(full, {key: value for key, value in entry.items() if key != "annotations"})
    return full


def _known(store: Store, name: str) -> dict[str, Any]:
    entry = find(store, name)
    if entry is None:
        raise BuildError(f"{name} is not in the store", hint="buildfront images lists what is")
    return entry


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
