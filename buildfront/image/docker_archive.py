"""Docker's image archives, as ``docker save`` writes and ``docker load`` reads them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import BuildError
from . import reference as references
from .compression import damaged, kind, reader
from .descriptor import Descriptor, Layer
from .digest import Digest
from .documents import Fields, json_value
from .image_config import ImageConfig
from .layout_files import LayoutFiles
from .manifest import image_manifest
from .media_types import CONFIG, LAYER, LAYER_GZIP, LAYER_ZSTD, MANIFEST
from .oci_layout import Found, add_file, blob_path
from .staging import Staging
from .tar_header import BLOCK

if TYPE_CHECKING:
    import tarfile


def is_docker_archive(files: LayoutFiles) -> bool:
    """Whether these are the files of a docker archive. One may be an OCI layout as well."""
    return files.has("manifest.json")


def load_docker_archive(files: LayoutFiles, staging: Staging) -> Found:
    """Add the images of a docker archive. Raise BuildError if one is damaged."""
    what = f"manifest.json in {files.path}"
    entries = json_value(files.read("manifest.json"), what)
    out = []
    for fields in Fields({"": entries}, what).objects("", 4096):
        raw = files.read(posixpath.normpath(fields.text("Config")))
        config = ImageConfig.parse(raw, f"the image config in {files.path}")
        names = fields.texts("Layers")
        if len(config.diff_ids) != len(names):
            raise BuildError(
                f"{files.path}: the config has {len(config.diff_ids)} layers, the archive {len(names)}"
            )
        added = staging.add([raw], CONFIG)
        layers = []
        for name, diff_id in zip(names, config.diff_ids, strict=True):
            path = posixpath.normpath(name)
            with files.open(path) as stream:
                compressed = kind(stream.read(BLOCK))
            try:
                layers.append(_load_layer(files, path, compressed, diff_id, staging))
            except BuildError as error:
                raise BuildError(f"the layer {name} in {files.path} is damaged: {error.what}") from None
        manifest = staging.add([image_manifest(added, layers)], MANIFEST)
        out.append((manifest, [str(references.parse(tag)) for tag in fields.texts("RepoTags")]))
    return out


def _load_layer(files: LayoutFiles, path: str, compressed: str, diff_id: Digest, staging: Staging) -> Layer:
    if compressed in ("xz", "bzip2"):  # there is not a media type for these
        try:
            with files.open(path) as stream:
                plain = reader(stream)
                return Layer(staging.add(iter(lambda: plain.read(1 << 20), b""), LAYER, diff_id), diff_id)
        except damaged() as error:
            raise BuildError(str(error)) from None
    media_type = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD}.get(compressed, LAYER)
    layer = Layer(staging.add(files.chunks(path), media_type), diff_id)
    staging.check_layer(layer)
    return layer


def write_docker_manifest(
    tar: tarfile.TarFile, config: Descriptor, layers: Sequence[Layer], names: Sequence[str]
) -> None:
    """Add the ``manifest.json`` that ``docker load`` reads to a layout that was written to a tar.

    It names the layers by their blobs, as docker itself does.
    """
    entry = {
        "Config": blob_path(config.digest),
        "RepoTags": list(names) or None,
        "Layers": [blob_path(layer.descriptor.digest) for layer in layers],
    }
    add_file(tar, "manifest.json", json.dumps([entry]).encode())
