"""Building an image: prepare, run the steps, put the image together, keep it, write the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from ..engine.events import Listener
from ..engine.result import Result
from ..errors import BuildError
from ..export.write import write_outputs
from ..image import reference as image_reference
from ..image.assemble import HistoryLine, image_config
from ..image.built_image import BuiltImage
from ..image.descriptor import Descriptor, Layer
from ..image.documents import dumps
from ..image.layout_index import NamedEntry
from ..image.manifest import image_manifest
from ..image.media_types import CONFIG
from ..options import BuildOptions
from ..outcome import BuildOutcome
from ..store.image_store import Store
from .inputs import inputs
from .prepare import Prepared, prepare, silent


def build(options: BuildOptions, emit: Listener = silent) -> BuildOutcome:
    """Build an image, put it into the store under its tags, and write the outputs.

    Args:
        options: What to build, and how.
        emit: Called with each :class:`Event` of the build, from any thread, one event at a time for a step. See
            :func:`create_progress` for what the command line passes.

    Raises:
        BuildError: The build failed. The store then has at most the results of the steps that succeeded; an output
            that was begun is removed, but for the files of ``type=local``.
    """
    with ExitStack() as stack:
        prepared = prepare(options, stack, emit)
        try:
            results = prepared.engine.build()
        except BuildError as error:
            raise error.in_text(prepared.source.text) from None
        image = assemble(prepared, results)
        names = tuple(str(image_reference.parse(tag)) for tag in options.tags)
        _keep(prepared.store, image, names)
        if options.outputs:
            write_outputs(prepared.store, options.outputs, image, names, emit)
        manifest, config = image.manifest_descriptor.digest, image.config_descriptor.digest
        cached = all(result.cached for result in results.values())
        return BuildOutcome(
            image_id=config,
            digest=manifest,
            names=names,
            size=image.size,
            blobs=(manifest, config, *(layer.descriptor.digest for layer in image.layers)),
            cached=cached,
            findings=prepared.findings,
            find_inputs=partial(inputs, prepared) if cached else lambda: None,
        )


def assemble(prepared: Prepared, results: Mapping[int, Result]) -> BuiltImage:
    """Return the image of the target stage. Equal results give equal bytes, however often it is built."""
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
    if graph.created is not None:
        times = [graph.created] * max(1, len(times))
    moments = iter(times)
    history = []
    for line in stage.history:
        made = line.step is not None and results[line.step].changed
        moment = next(moments, None) if made else graph.created
        history.append(HistoryLine(line.created_by, made, moment))
    value = image_config(
        config=stage.config,
        platform=graph.image_platform,
        author=stage.author,
        base=base.config if base else {},
        layers=layers,
        history=history,
        created=max(times) if times else None,
    )
    config = dumps(value)
    return BuiltImage(config, image_manifest(Descriptor.of(config, CONFIG), layers), layers)


def _keep(store: Store, image: BuiltImage, names: tuple[str, ...]) -> None:
    """Put the image's documents into the store, and list it under its names, or under none."""
    config, manifest = image.config_descriptor, image.manifest_descriptor
    if not (store.is_whole(config.digest, config.size) and store.is_whole(manifest.digest, manifest.size)):
        with store.session() as session:
            session.put(image.config, config.media_type)
            session.put(image.manifest, manifest.media_type)
    for name in names:
        known = store.index.find(name)
        if known is None or known.digest != manifest.digest:
            store.index.set(name, NamedEntry.of(manifest))
    if not names and not any(entry.digest == manifest.digest for entry in store.index.read()):
        store.index.set("", NamedEntry.of(manifest))
