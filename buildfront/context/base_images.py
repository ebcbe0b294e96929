"""Base images: the names in FROM, found in the store, in image layouts, or in registries."""

from __future__ import annotations

from collections.abc import Callable

from .. import image_transfer
from ..errors import BuildError
from ..image import platform as platforms
from ..image import reference as references
from ..image.base_image import BaseImage
from ..image.layout_index import NamedEntry
from ..store.image_store import Store
from ..store.lookup import find, read_image
from ..store.verified import MEND


def resolve(
    store: Store, name: str, *, platform: str, pull: str, report: Callable[[str], None], exact: bool = False
) -> BaseImage:
    """Return the image that ``name`` stands for on ``platform``. All of its blobs are present and whole.

    The store has one image of a name. With ``exact``, one of another platform is pulled again where that is possible.
    ``pull`` is one of :data:`buildfront.options.PULL`. A blob that is missing or damaged is fetched again, from the
    registry of the name and by the image's digest, unless ``pull`` is ``never``. ``report`` is called with a line of
    text for what takes time. Raises BuildError where the image can't be found or read.
    """
    if name.startswith("oci-layout://"):
        return read_base(store, name, image_transfer.load_layout_reference(store, name, platform).digest)
    name = name.removeprefix("docker-image://")
    entry = find(store, name, in_dockerfile=True)
    if entry is not None and pull in ("missing", "never"):
        base = _whole(store, name, entry, pull, report)
        is_id = not name.removeprefix("sha256:").strip("0123456789abcdef")
        if pull == "never" or not exact or is_id or platforms.of(base.config) == platform:
            return base
    reference = references.parse(name)
    if pull == "never":
        raise BuildError(
            f"{reference.familiar} is not in the store", hint="load or pull it, or leave out --pull=never"
        )
    try:
        descriptor = image_transfer.pull(store, name, platform=platform, report=report)
    except BuildError as error:
        if entry is not None and pull == "missing":
            report(f"{reference.familiar} is not for {platform}, and could not be pulled: {error.what}")
        if entry is not None and pull in ("missing", "newer"):
            return _whole(store, name, entry, pull, report)
        raise BuildError(
            f"{reference.familiar} is not in the store, and could not be pulled: {error.what}",
            hint=error.hint or "buildfront images lists what is in the store",
        ) from None
    return read_base(store, name, descriptor.digest)


def read_base(store: Store, name: str, digest: str) -> BaseImage:
    """Return an image of the store. Raises BuildError where its documents are wrong or contradict each other."""
    image = read_image(store, digest)
    layers = image.config.layers(image.manifest, name)
    return BaseImage(name, digest, image.image_id, image.config.value, layers)


def _whole(store: Store, name: str, entry: NamedEntry, pull: str, report: Callable[[str], None]) -> BaseImage:
    """Return the image with this descriptor, after fetching again what is missing or damaged."""
    digest = entry.digest
    try:
        base = read_base(store, name, digest)
        problem = _damage(store, base)
    except BuildError as error:
        problem = error.what
    else:
        if problem is None:
            return base
    if pull == "never" or name.removeprefix("sha256:") in digest:
        raise BuildError(f"the image {name} can't be used: {problem}", hint=MEND)
    report(f"{problem}: fetching it again")
    try:
        image_transfer.repair(store, references.parse(name), digest, report=report)
    except BuildError as error:
        raise BuildError(
            f"the image {name} can't be used: {problem}, and it could not be fetched again: {error.what}",
            hint=MEND,
        ) from None
    return read_base(store, name, digest)


def _damage(store: Store, base: BaseImage) -> str | None:
    """Return a sentence about the first layer that is missing or damaged; None where all are whole."""
    for layer in base.layers:
        blob = layer.descriptor
        if not store.is_whole(blob.digest, blob.size):
            there = "is damaged" if store.has_blob(blob.digest) else "is missing"
            return f"the layer {blob.digest} {there}"
    return None
