"""Descriptors of blobs, and layers (OCI descriptor.md, config.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .digest import Digest
from .documents import Fields


@dataclass(frozen=True)
class Descriptor:
    """The media type, the digest and the size in bytes of a blob."""

    media_type: str
    digest: Digest
    size: int
    annotations: dict[str, str] = field(default_factory=dict, hash=False)

    @staticmethod
    def parse(fields: Fields, media_type: str = "") -> Descriptor:
        """Return the descriptor in an object of a document; ``media_type`` is the default.

        Raise BuildError if a member is missing or malformed.
        """
        return Descriptor(
            fields.media_type("mediaType", media_type),
            fields.digest("digest"),
            fields.number("size"),
            fields.pairs("annotations"),
        )

    @staticmethod
    def of(data: bytes, media_type: str) -> Descriptor:
        """Return the descriptor of some bytes."""
        return Descriptor(media_type, Digest.of(data), len(data))

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as a JSON object."""
        out: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        return out


@dataclass(frozen=True)
class Layer:
    """The blob of a layer, and the digest of the tar in it."""

    descriptor: Descriptor
    diff_id: Digest


def chain_id(diff_ids: Sequence[str]) -> str:
    """Return the identity of a stack of layers (OCI config.md, "Layer ChainID"), the empty string for no layer."""
    chain = ""
    for diff_id in diff_ids:
        chain = diff_id if not chain else Digest.of(f"{chain} {diff_id}".encode())
    return chain
