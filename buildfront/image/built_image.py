"""A new image, as bytes: what a build gives to the store and to its outputs."""

from __future__ import annotations

from dataclasses import dataclass

from .descriptor import Descriptor, Layer
from .media_types import CONFIG, MANIFEST


@dataclass(frozen=True)
class BuiltImage:
    """The documents of an image, and its layers, which are blobs of the store already."""

    config: bytes
    manifest: bytes
    layers: tuple[Layer, ...]

    @property
    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config."""
        return Descriptor.of(self.config, CONFIG)

    @property
    def manifest_descriptor(self) -> Descriptor:
        """The descriptor of the manifest."""
        return Descriptor.of(self.manifest, MANIFEST)

    @property
    def size(self) -> int:
        """The size of the compressed layers in bytes."""
        return sum(layer.descriptor.size for layer in self.layers)
