"""An image's documents with faults, and what a message about them has to look like."""

from __future__ import annotations

from typing import Any

from strangers import INDEX, MANIFEST, Image, digest, dumps

from buildfront.errors import BuildError
from buildfront.text import visible

JSON = {"Content-Type": MANIFEST}
IMAGE = Image()


def fit(error: BuildError) -> None:
    """What a message of ours looks like: short, on one line, of visible characters."""
    for text in (error.what, error.hint):
        assert len(text) <= 2000 and text == visible(text), text


def manifest(**changes: Any) -> bytes:
    return dumps({**IMAGE.manifest, **changes})


def with_config(**changes: Any) -> bytes:
    return manifest(config={**IMAGE.manifest["config"], **changes})


def with_layer(**changes: Any) -> bytes:
    return manifest(layers=[{**IMAGE.manifest["layers"][0], **changes}])


def index(*entries: Any, **more: Any) -> bytes:
    return dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries), **more})


DEEP = b'{"a":' * 100_000
HERE = {"mediaType": MANIFEST, "digest": digest(manifest()), "size": len(manifest())}
AMD64 = {"os": "linux", "architecture": "amd64"}
