"""Manifests and indexes of images (OCI manifest.md and image-index.md, docker's schema 2 and manifest list)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from . import platform as platforms
from .descriptor import Descriptor, Layer
from .digest import Digest
from .documents import Fields, dumps, json_object
from .media_types import CONFIG, DOCKER_CONFIG, INDEXES, MANIFEST, MANIFESTS

LAYERS = 4096
"""Layers of the largest image that is read. Docker allows 127."""

NESTED = 8
"""How many indexes may lead to one another before there is a manifest."""

_CONFIGS = (CONFIG, DOCKER_CONFIG, "application/octet-stream")
"""Media types of an image's config; the last is of images that old versions of Docker pushed."""


@dataclass(frozen=True)
class Manifest:
    """An image manifest (OCI manifest.md, docker's schema 2)."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The config and the layers, each digest once. Raise BuildError if one digest has two sizes."""
        found: dict[str, Descriptor] = {}
        for item in (self.config, *self.layers):
            if found.setdefault(item.digest, item).size != item.size:
                raise BuildError(f"the manifest gives the blob {item.digest} two sizes")
        return tuple(found.values())

    @staticmethod
    def parse(data: bytes, what: str, media_type: str = "") -> Manifest:
        """Return the image manifest in ``data``; ``media_type`` is the default for one that does not state its own.

        Raise BuildError if it is anything else.
        """
        return Manifest.of(json_object(data, what), what, media_type)

    @staticmethod
    def of(value: dict[str, Any], what: str, media_type: str = "") -> Manifest:
        """Do the same as :meth:`parse` for an object that :func:`json_object` returned."""
        fields = Fields(value, what)
        if not fields.has("config") or not fields.has("layers"):
            raise BuildError(f"{what} is not an image manifest")
        kind = fields.media_type("mediaType", media_type) or MANIFESTS[0]
        if kind not in MANIFESTS:
            raise BuildError(f"{what} is not an image: its media type is {kind}")
        config = Descriptor.parse(fields.object("config"), CONFIG)
        if config.media_type not in _CONFIGS:
            raise BuildError(f"{what} is not an image: its config's media type is {config.media_type}")
        layers = tuple(Descriptor.parse(item) for item in fields.objects("layers", LAYERS))
        return Manifest(kind, config, layers)


@dataclass(frozen=True)
class IndexEntry:
    """An entry of an index. ``platform`` is empty if the entry has none."""

    descriptor: Descriptor
    platform: str

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations of the descriptor."""
        return self.descriptor.annotations


@dataclass(frozen=True)
class Index:
    """An image index (OCI image-index.md, docker's manifest list)."""

    entries: tuple[IndexEntry, ...]

    @staticmethod
    def parse(data: bytes, what: str) -> Index:
        """Return the index in ``data``. Raise BuildError if it is anything else."""
        return Index.of(json_object(data, what), what)

    @staticmethod
    def of(value: dict[str, Any], what: str) -> Index:
        """Do the same as :meth:`parse` for an object that :func:`json_object` returned."""
        entries = []
        for item in Fields(value, what).objects("manifests", 65536):
            fields = item.object("platform")
            platform = _platform(fields) if item.has("platform") else ""
            entries.append(IndexEntry(Descriptor.parse(item), platform))
        return Index(tuple(entries))

    def pick(self, platform: str, what: str) -> Descriptor:
        """Return the descriptor for a platform. Raise BuildError, which lists the platforms, if there is none."""
        found: list[str] = []
        for item in self.entries:
            if not item.platform:
                if len(self.entries) == 1:
                    return item.descriptor
                continue
            if item.platform == platform or item.platform.startswith(platform + "/"):
                return item.descriptor
            found.append(item.platform)
        shown = ", ".join(list(dict.fromkeys(found))[:20])
        raise BuildError(f"{what} has nothing for {platform}", hint=f"it has {shown or 'nothing'}")


def _platform(fields: Fields) -> str:
    parts = {name: fields.text(name) for name in ("os", "architecture", "variant")}
    try:
        return platforms.of({name: text for name, text in parts.items() if text})
    except BuildError:
        return "unknown/unknown"  # as buildx writes it for attestations; it is never asked for


def is_index(value: Mapping[str, Any], media_type: str = "") -> bool:
    """Whether a document is an index: by its own media type, by the one that it came with, or by its members."""
    return value.get("mediaType") in INDEXES or media_type in INDEXES or "manifests" in value


def find_manifest(
    data: bytes, media_type: str, platform: str, what: str, read: Callable[[Descriptor], bytes]
) -> tuple[bytes, Manifest]:
    """Return the manifest for ``platform``, with its bytes: the document in ``data``, or what its indexes lead to.

    ``read`` returns the content of a descriptor in an index; its digest is checked here. Raise BuildError if there is
    no such manifest.
    """
    for _ in range(NESTED + 1):
        value = json_object(data, what)
        if not is_index(value, media_type):
            return data, Manifest.of(value, what, media_type)
        chosen = Index.of(value, what).pick(platform, what)
        media_type = chosen.media_type
        data = read(chosen)
        if Digest.of(data) != chosen.digest:
            raise BuildError(f"the blob {chosen.digest} is damaged: its digest is {Digest.of(data)}")
    raise BuildError(f"{what} has more than {NESTED} indexes in each other")


def image_manifest(
    config: Descriptor, layers: Sequence[Layer], annotations: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a new manifest."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    if annotations:
        value["annotations"] = dict(annotations)
    return dumps(value)
