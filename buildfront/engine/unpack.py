"""Images unpacked into snapshots: layer upon layer, shared by all builds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from run_step import Root

from ..errors import BuildError
from ..image.base_image import BaseImage
from ..image.compression import layer_reader, unreadable
from ..image.descriptor import Layer, chain_id
from ..image.hashed import HashedReader
from ..image.layer import Applier
from ..image.tar_header import ArchiveError
from ..image.tar_reader import Cancellable
from ..store.image_store import Session
from .result import Result


def _go_on() -> None:
    return None


class Unpacker:
    """Gives results their snapshots: an image is unpacked when the first step needs its files.

    ``check`` is called often, and may raise to end it. Methods may be called by several threads.
    """

    def __init__(self, session: Session, check: Callable[[], None] = _go_on) -> None:
        self._session = session
        self._check = check
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def snapshot(self, result: Result) -> int | None:
        """Return the snapshot of a result; None for an empty root filesystem."""
        if result.snapshot is not None or result.base is None:
            return result.snapshot
        with self._lock:
            lock = self._locks.setdefault(result.base.config_digest, threading.Lock())
        with lock:
            return unpack(result.base, self._session, self._check)


def unpack(base: BaseImage, session: Session, check: Callable[[], None] = _go_on) -> int | None:
    """Return the snapshot that holds the image's root filesystem; None for an image without layers.

    Layers that the store has unpacked before are not unpacked again. ``check`` is called often, and may raise to end
    it. Raise BuildError for a damaged layer; nothing of it is kept.
    """
    catalogue = session.store.catalogue
    diff_ids = [layer.diff_id for layer in base.layers]
    parent: int | None = None
    done = 0
    for count in range(len(diff_ids), 0, -1):
        known = catalogue.chain(chain_id(diff_ids[:count]))
        # A chain ID alone is no proof: an image may give one layer the chain ID of another image's layers as diff ID.
        if known is not None and session.store.has_lineage(known):
            lineage = [row.diff_id for row in reversed(catalogue.lineage(known))]
            if lineage == diff_ids[:count]:
                parent, done = known, count
                break
    for index in range(done, len(diff_ids)):
        layer = base.layers[index]
        parent = number = apply_layer(layer, parent, session, check)
        try:
            blob = layer.descriptor
            catalogue.set_layer(number, layer.diff_id, blob.digest, blob.size, blob.media_type)
            catalogue.set_chain(chain_id(diff_ids[: index + 1]), number)
        except BaseException:
            with suppress(OSError, BuildError):
                session.drop(number)  # without its names it can not be found
            raise
    return parent


def apply_layer(layer: Layer, parent: int | None, session: Session, check: Callable[[], None]) -> int:
    """Return a new snapshot: a layer, whose blob the store has, on top of another snapshot.

    Raise BuildError for a damaged layer.
    """
    active = session.prepare(parent)
    try:
        with open(session.store.blob_path(layer.descriptor.digest), "rb") as blob, Root(active.path) as root:
            try:
                tar = layer_reader(Cancellable(blob, check), layer.descriptor.media_type)
                hashed = HashedReader(tar)
                Applier(root).apply(Cancellable(hashed, check))
            except ArchiveError as error:
                error.what = f"the layer {layer.descriptor.digest}: {error.what}"
                raise
            except unreadable() as error:
                raise BuildError(f"the layer {layer.descriptor.digest} can't be unpacked: {error}") from None
            hashed.check(layer)
        return session.commit(active, parent)
    except BaseException:
        active.discard()
        raise
