"""Names in FROM to images in the store: by the store's own names, image layouts, registries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .engine.model import BaseImage
from .errors import BuildError
from .image import reference as references
from .image.model import Descriptor, Layer
from .names import find
from .store import Store

PULL = ("missing", "always", "never", "newer")


def resolve(store: Store, name: str, *, platform: str, pull: str, report: Callable[[str], None]) -> BaseImage:
    """The image that ``name`` means for ``platform``.

    Raises BuildError when it is nowhere. ``pull``: ``missing`` asks a registry only for what the store lacks,
    ``never`` asks none, ``always`` and ``newer`` ask first.
    """
    if name.startswith("oci-layout://"):
        from . import transfer

        return read_base(store, name, transfer.load_layout_reference(store, name, platform).to_json())
    name = name.removeprefix("docker-image://")
    reference = references.parse(name)
    entry = find(store, name)
    if entry is not None and pull in ("missing", "never"):
        return read_base(store, name, entry)
    if pull == "never":
        raise BuildError(
            f"{reference.familiar} is not in the store", hint="load or pull it, or leave out --pull=never"
        )
    from . import transfer

    try:
        descriptor: Descriptor = transfer.pull(store, name, platform=platform, report=report)
    except BuildError as error:
        if entry is not None and pull == "newer":
            return read_base(store, name, entry)
        raise BuildError(
            f"{reference.familiar} is not in the store, and could not be pulled: {error.what}",
            hint=error.hint or "buildfront images lists what is in the store",
        ) from None
    return read_base(store, name, descriptor.to_json())


def read_base(store: Store, name: str, entry: dict[str, Any]) -> BaseImage:
    """An image of the store. Raises BuildError for one whose documents contradict each other."""
    manifest = store.read_json(entry["digest"])
    config_digest = manifest["config"]["digest"]
    config = store.read_json(config_digest)
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(manifest["layers"]):
        raise BuildError(
            f"{name}: the manifest has {len(manifest['layers'])} layers and the config {len(diff_ids)}"
        )
    layers = tuple(
        Layer(Descriptor(item["mediaType"], item["digest"], item["size"]), diff_id)
        for item, diff_id in zip(manifest["layers"], diff_ids, strict=True)
    )
    return BaseImage(name, entry["digest"], config_digest, config, layers)
