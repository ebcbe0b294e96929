"""Images of the store, found by what users call them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BuildError
from ..image import reference as references
from ..image.digest import Digest
from ..image.image_config import ImageConfig
from ..image.layout_index import NamedEntry
from ..image.manifest import Manifest
from .image_store import Store

_ID = re.compile("[0-9a-f]{7,64}")
_IN_FROM = 12
"""Digits of an ID, as ``images`` prints it, that a Dockerfile needs without ``sha256:``: a strange image can be made to
have a shorter one."""


@dataclass(frozen=True)
class StoredImage:
    """An image of the store: its documents, read and checked."""

    digest: Digest
    manifest: Manifest
    config: ImageConfig

    @property
    def image_id(self) -> Digest:
        """The digest of the config."""
        return self.manifest.config.digest

    @property
    def size(self) -> int:
        """The size of the layers' blobs, in bytes."""
        return sum(layer.size for layer in self.manifest.layers)


def read_manifest(store: Store, digest: str) -> Manifest:
    """Return a manifest. Raise BuildError if it is missing, damaged or malformed."""
    return Manifest.parse(store.read_blob(digest), f"the manifest {digest}")


def read_image(store: Store, digest: str) -> StoredImage:
    """Return the image with this manifest. Raise BuildError if a document of it is missing, damaged or malformed."""
    manifest = read_manifest(store, digest)
    config = manifest.config.digest
    return StoredImage(
        Digest(digest),
        manifest,
        ImageConfig.parse(store.read_blob(config), f"the image config {config}"),
    )


def find(store: Store, name: str, *, in_dockerfile: bool = False) -> NamedEntry | None:
    """Return the entry for a name, a digest, or the first digits, at least 7, of an image ID or manifest digest.

    Names come first, so that no ID can be made to hide one. ``in_dockerfile``: there an ID needs ``sha256:`` before it,
    or 12 digits. Raise BuildError for text that is neither, and for digits that several images begin with.
    """
    bare = name.removeprefix("sha256:")
    is_id = _ID.fullmatch(bare) is not None
    if not (is_id and name != bare) and len(bare) != 64:
        reference = references.parse(name)
        if reference.digest:
            same = (item for item in store.index.read() if item.digest == reference.digest)
            # The digest of an index leads to a manifest with another one: that image is found by its name.
            return next(same, None) or store.index.find(str(reference))
        found = store.index.find(str(reference))
        if found is not None or not is_id or (in_dockerfile and len(bare) < _IN_FROM):
            return found
    elif not is_id:
        references.parse(name)  # says what is wrong
    return _by_id(store, name, f"sha256:{bare}")


def known(store: Store, name: str) -> NamedEntry:
    """Do the same as :func:`find`, but raise BuildError if there is no such image."""
    entry = find(store, name)
    if entry is None:
        raise BuildError(f"{name} is not in the store", hint="buildfront images lists what is")
    return entry


def _by_id(store: Store, name: str, prefix: str) -> NamedEntry | None:
    found: dict[str, NamedEntry] = {}
    for item in store.index.read():
        digest = item.digest
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
        return ""  # a damaged image is found by its name, which tells of the damage
