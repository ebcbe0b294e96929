"""What a user calls an image, to what the store has of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from ..image import reference as references
from ..image.documents import ImageConfig, Manifest, check_digest
from .image_store import Store

_ID = re.compile("[0-9a-f]{7,64}")
_IN_FROM = 12
"""Digits of an ID, as ``images`` prints it, that a Dockerfile needs where it does not write ``sha256:``: a shorter one
can be made to order."""


@dataclass(frozen=True)
class StoredImage:
    """An image of the store: its documents, read and checked."""

    digest: str
    manifest: Manifest
    config: ImageConfig

    @property
    def image_id(self) -> str:
        """The digest of the config."""
        return self.manifest.config.digest

    @property
    def size(self) -> int:
        """Of the layers' blobs, in bytes."""
        return sum(layer.size for layer in self.manifest.layers)


def read_manifest(store: Store, digest: str) -> Manifest:
    """Raises BuildError where it is missing, damaged or no manifest."""
    return Manifest.parse(store.read_blob(check_digest(digest)), f"the manifest {digest}")


def read_image(store: Store, digest: str) -> StoredImage:
    """The image with this manifest. Raises BuildError where one of its documents is missing, damaged or wrong."""
    manifest = read_manifest(store, digest)
    config = manifest.config.digest
    return StoredImage(
        digest, manifest, ImageConfig.parse(store.read_blob(config), f"the image config {config}")
    )


def find(store: Store, name: str, *, in_dockerfile: bool = False) -> dict[str, Any] | None:
    """The descriptor for a name, a digest, or an image ID or manifest digest by its first digits, at least 7.

    Names come first, so that no ID can be made to stand before one. ``in_dockerfile``: an ID has ``sha256:`` before it
    there, or 12 digits. Raises BuildError for what is neither, and for digits that several images begin with.
    """
    bare = name.removeprefix("sha256:")
    is_id = _ID.fullmatch(bare) is not None
    if not (is_id and name != bare) and len(bare) != 64:
        reference = references.parse(name)
        if reference.digest:
            same = (item for item in store.index.read() if item["digest"] == reference.digest)
            return next(same, None) or store.index.find(
                str(reference)
            )  # that of an index leads to another manifest
        found = store.index.find(str(reference))
        if found is not None or not is_id or (in_dockerfile and len(bare) < _IN_FROM):
            return found
    elif not is_id:
        references.parse(name)  # says what is wrong
    return _by_id(store, name, f"sha256:{bare}")


def _by_id(store: Store, name: str, prefix: str) -> dict[str, Any] | None:
    found: dict[str, dict[str, Any]] = {}
    for item in store.index.read():
        digest = item["digest"]
        if digest.startswith(prefix) or _config_digest(store, digest).startswith(prefix):
            found.setdefault(digest, item)
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:5])
        raise BuildError(
            f"{name} is the beginning of several images: {shown}", hint="write more of its digits"
        )
    return next(iter(found.values()), None)


def _config_digest(store: Store, digest: str) -> str:
    try:
        return read_manifest(store, digest).config.digest
    except BuildError:
        return ""  # a damaged image is found by its name, and told of then
