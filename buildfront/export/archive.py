"""``type=oci`` and ``type=docker``: an image as a directory or a tar that other tools read."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from typing import IO, Any

from ..image.model import INDEX, Descriptor, Layer

Opener = Callable[[str], IO[bytes]]
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"


def _index(manifest: Descriptor, names: Sequence[str]) -> bytes:
    entries = []
    for name in names or ("",):
        entry: dict[str, Any] = manifest.to_json()
        if name:
            tail = name.rpartition("/")[2]
            tag = tail.partition(":")[2] or "latest"
            entry["annotations"] = {IMAGE_NAME: name, REF_NAME: tag}
        entries.append(entry)
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def write_layout(
    directory: str,
    manifest: Descriptor,
    config: Descriptor,
    layers: Sequence[Layer],
    names: Sequence[str],
    open_blob: Opener,
) -> None:
    """An OCI image layout in a directory, made when missing; blobs that are there are kept."""
    os.makedirs(os.path.join(directory, "blobs", "sha256"), exist_ok=True)
    for digest in dict.fromkeys(
        [manifest.digest, config.digest, *(layer.descriptor.digest for layer in layers)]
    ):
        path = os.path.join(directory, _blob_path(digest))
        if not os.path.exists(path):
            with open_blob(digest) as source, open(path + ".new", "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            os.rename(path + ".new", path)
    for name, data in (
        ("index.json", _index(manifest, names)),
        ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
    ):
        with open(os.path.join(directory, name), "wb") as target:
            target.write(data)


def write_archive(
    out: IO[bytes],
    manifest: Descriptor,
    config: Descriptor,
    layers: Sequence[Layer],
    names: Sequence[str],
    open_blob: Opener,
    *,
    docker: bool,
) -> None:
    """The same as a tar. ``docker`` adds the ``manifest.json`` that ``docker load`` reads; the layers are then
    named by their blobs, as docker itself writes them."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        sizes = {layer.descriptor.digest: layer.descriptor.size for layer in layers}
        for digest, size in {manifest.digest: manifest.size, config.digest: config.size, **sizes}.items():
            with open_blob(digest) as source:
                info = tarfile.TarInfo(_blob_path(digest))
                info.size, info.mode = size, 0o644
                tar.addfile(info, source)
        _add(tar, "index.json", _index(manifest, names))
        if docker:
            entry = {
                "Config": _blob_path(config.digest),
                "RepoTags": list(names) or None,
                "Layers": [_blob_path(layer.descriptor.digest) for layer in layers],
            }
            _add(tar, "manifest.json", json.dumps([entry]).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
