"""FROM: an image's layers, unpacked one upon another into snapshots that every build shares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import IO, Any

from run_step import Root

from ..engine.model import BaseImage
from ..errors import BuildError
from ..image.compression import layer_reader, unreadable
from ..image.layer import Applier
from ..image.model import Layer, chain_id
from ..image.tar_header import ArchiveError
from ..image.tar_reader import Cancellable
from ..store import Session


class _Hashed:
    """Passes reads on and hashes what was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.hash.update(data)
        return data


def _go_on() -> None:
    return None


def unpack(base: BaseImage, session: Session, check: Callable[[], None] = _go_on) -> int | None:
    """The snapshot that holds the image's root filesystem; None for an image with no layer.

    Layers that the store has unpacked before are not unpacked again. ``check`` is called often, and may raise to end
    it. Raises BuildError for a damaged layer; nothing of it stays then.
    """
    catalogue = session.store.catalogue
    diff_ids = [layer.diff_id for layer in base.layers]
    parent: int | None = None
    done = 0
    for count in range(len(diff_ids), 0, -1):
        known = catalogue.chain(chain_id(diff_ids[:count]))
        if known is not None and session.store.has_snapshot(known):
            parent, done = known, count
            break
    for index in range(done, len(diff_ids)):
        parent = _layer(base.layers[index], parent, session, check)
        catalogue.set_chain(chain_id(diff_ids[: index + 1]), parent)
    return parent


def _layer(layer: Layer, parent: int | None, session: Session, check: Callable[[], None]) -> int:
    active = session.prepare(parent)
    try:
        with open(session.store.blob_path(layer.descriptor.digest), "rb") as blob, Root(active.path) as root:
            try:
                tar = layer_reader(Cancellable(blob, check), layer.descriptor.media_type)
                hashed: Any = _Hashed(tar)
                Applier(root).apply(Cancellable(hashed, check))
            except ArchiveError as error:
                error.what = f"the layer {layer.descriptor.digest}: {error.what}"
                raise
            except unreadable() as error:
                raise BuildError(f"the layer {layer.descriptor.digest} can't be unpacked: {error}") from None
            found = "sha256:" + hashed.hash.hexdigest()
        if found != layer.diff_id:
            raise BuildError(
                f"the layer {layer.descriptor.digest} does not hold what its image says: its diff ID is {found}, "
                f"and {layer.diff_id} was expected"
            )
        number = session.commit(active, parent)
    except BaseException:
        active.discard()
        raise
    descriptor = layer.descriptor
    session.store.catalogue.set_layer(
        number, layer.diff_id, descriptor.digest, descriptor.size, descriptor.media_type
    )
    return number
