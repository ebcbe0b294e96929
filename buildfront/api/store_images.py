"""The images of the store: listed, described, named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from ..image import reference as image_reference
from ..image.documents import json_object
from ..store.image_store import Store
from ..store.lookup import known, read_image


@dataclass(frozen=True)
class ImageSummary:
    """An image of the store under one of its names.

    Attributes:
        name: The full name, with registry and tag; empty for an image without one.
        image_id: The digest of the image config.
        digest: The digest of the manifest.
        created: When it was made, in RFC 3339, as the image config says.
        size: The size of the compressed layers in bytes.
        platform: ``os/architecture``, with a variant where there is one.
        problem: What is wrong with an image that can't be read, else empty. Only name and digest are filled in then.
    """

    name: str
    image_id: str
    digest: str
    created: str
    size: int
    platform: str
    problem: str = ""

    @property
    def familiar_name(self) -> str:
        """The name as people write it, without the default registry; empty for an image without a name."""
        return image_reference.parse(self.name).familiar if self.name else ""


def images(root: str | None = None) -> list[ImageSummary]:
    """Return the images of the store, the newest first.

    Raises:
        BuildError: The store can't be read.
    """
    out = []
    with Store(root) as store:
        for entry in store.index.read():
            name, digest = entry.name, entry.digest
            try:
                image = read_image(store, digest)
            except BuildError as error:
                out.append(ImageSummary(name, "", digest, "", 0, "", error.what))
                continue
            config = image.config
            out.append(
                ImageSummary(name, image.image_id, digest, config.created, image.size, config.platform)
            )
    return sorted(out, key=lambda row: row.created, reverse=True)


def inspect(name: str, root: str | None = None) -> dict[str, Any]:
    """Return an image as JSON values: ``name``, ``digest``, ``id``, and its ``manifest`` and ``config`` as they are.

    ``name`` may also be an image ID or a digest, or the beginning of one.

    Raises:
        BuildError: The store has no such image, or it is damaged.
    """
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
    """Give an image another name, which is taken from the image that had it; return the full name.

    Raises:
        BuildError: The store has no such image, or ``new`` is not a name.
    """
    full = str(image_reference.parse(new))
    with Store(root) as store:
        store.index.set(full, known(store, name).annotated({}))
    return full
