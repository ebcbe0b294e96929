"""Descriptors, configs and manifests as they stand in an image (OCI image spec 1.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..text import SURROGATE

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_COMPRESSIONS = (("", "plain"), (".gzip", "gzip"), (".zstd", "zstd"))
LAYER_COMPRESSION = {
    **{
        f"application/vnd.oci.image.layer.{form}v1.tar{end.replace('.', '+')}": name
        for form in ("", "nondistributable.")
        for end, name in _COMPRESSIONS
    },
    **{
        f"application/vnd.docker.image.rootfs.{form}diff.tar{end}": name
        for form in ("", "foreign.")
        for end, name in _COMPRESSIONS
    },
}
"""The media types of layers, and how their tars are compressed."""
INDEXES = (INDEX, DOCKER_LIST)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)


@dataclass(frozen=True)
class Descriptor:
    """What a blob is, its digest and its size in bytes (OCI descriptor.md)."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        out: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        return out


@dataclass(frozen=True)
class Layer:
    """A layer: the blob, and the digest of the tar inside it."""

    descriptor: Descriptor
    diff_id: str


def digest_of(data: bytes) -> str:
    """``sha256:…`` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dumps(value: Any) -> bytes:
    """Compact JSON with keys in a fixed order, so that equal values have equal digests."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # halves of characters, from a base image: U+FFFD, as in Go
        return SURROGATE.sub("\ufffd", text).encode()


def chain_id(diff_ids: Sequence[str]) -> str:
    """The identity of a stack of layers (OCI config.md, "Layer ChainID"); empty for no layer."""
    chain = ""
    for diff_id in diff_ids:
        chain = diff_id if not chain else digest_of(f"{chain} {diff_id}".encode())
    return chain


def image_manifest(
    config: Descriptor, layers: Sequence[Layer], annotations: dict[str, str] | None = None
) -> bytes:
    """A manifest's bytes."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    if annotations:
        value["annotations"] = annotations
    return dumps(value)
