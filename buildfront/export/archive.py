"""``type=oci`` and ``type=docker``: an image as a directory or a tar that other tools read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

from ..errors import BuildError
from ..image.documents import Fields, json_object
from ..image.model import INDEX, Descriptor, Layer

Opener = Callable[[Descriptor], IO[bytes]]
"""Opens a blob; reading it raises BuildError where it is not what its descriptor says."""

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


def _entries(manifest: Descriptor, names: Sequence[str]) -> list[dict[str, Any]]:
    entries = []
    for name in names or ("",):
        entry: dict[str, Any] = manifest.to_json()
        if name:
            tail = name.rpartition("/")[2]
            tag = tail.partition(":")[2] or "latest"
            entry["annotations"] = {IMAGE_NAME: name, REF_NAME: tag}
        entries.append(entry)
    return entries


def _index(entries: list[dict[str, Any]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _blobs(manifest: Descriptor, config: Descriptor, layers: Sequence[Layer]) -> list[Descriptor]:
    found = [manifest, config, *(layer.descriptor for layer in layers)]
    return list({item.digest: item for item in found}.values())


def write_layout(
    directory: str,
    manifest: Descriptor,
    config: Descriptor,
    layers: Sequence[Layer],
    names: Sequence[str],
    open_blob: Opener,
) -> None:
    """An OCI image layout in a directory, made when missing.

    Images of a layout that is there already stay in it, but for those of the same names; so do blobs that are whole.
    Raises BuildError for a directory whose index is none.
    """
    before = _present(directory)
    os.makedirs(os.path.join(directory, "blobs", "sha256"), exist_ok=True)
    for item in _blobs(manifest, config, layers):
        path = os.path.join(directory, _blob_path(item.digest))
        if not _is_whole(path, item):
            with open_blob(item) as source, _beside(path) as target:
                shutil.copyfileobj(source, target, 1 << 20)
    entries = _entries(manifest, names)
    taken = {
        text for item in entries for text in (_name(item), item.get("annotations", {}).get(REF_NAME)) if text
    }
    kept = [item for item in before if _name(item) not in taken and item != manifest.to_json()]
    for name, data in (("index.json", _index([*kept, *entries])), ("oci-layout", _LAYOUT)):
        with _beside(os.path.join(directory, name)) as target:
            target.write(data)


def _present(directory: str) -> list[dict[str, Any]]:
    """The entries of a layout that is there. Raises BuildError before anything is written."""
    path = os.path.join(directory, "index.json")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with os.fdopen(fd, "rb") as stream:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"{path} is no regular file", hint="name another directory with dest=")
        try:
            value = json_object(stream.read((4 << 20) + 1), path)
            entries = value.get("manifests") or []
            for item in Fields(value, path).objects("manifests", 65536):
                item.pairs("annotations")
                item.text("digest")
        except BuildError as error:
            raise BuildError(
                error.what, hint="name another directory with dest=, or remove the file"
            ) from None
    return list(entries)


def _name(entry: dict[str, Any]) -> str:
    """The name of an image in a layout, empty for one that has none."""
    annotations = entry.get("annotations") or {}
    return str(annotations.get(IMAGE_NAME) or annotations.get(REF_NAME) or "") or str(entry.get("digest"))


def _is_whole(path: str, item: Descriptor) -> bool:
    """Whether a blob of the layout is there and what it should be."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(fd, "rb", buffering=0) as stream:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != item.size:
            return False
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() == item.digest


class _beside:
    """A file that is written beside its place and put there when it is complete."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._new = f"{path}.{os.getpid()}.new"

    def __enter__(self) -> IO[bytes]:
        with suppress(FileNotFoundError):
            os.unlink(self._new)  # of a program of this number that was killed
        self._file = open(self._new, "xb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            os.rename(self._new, self._path)
        else:
            os.unlink(self._new)


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
        _add(tar, "oci-layout", _LAYOUT)
        for item in _blobs(manifest, config, layers):
            with open_blob(item) as source:
                info = tarfile.TarInfo(_blob_path(item.digest))
                info.size, info.mode = item.size, 0o644
                tar.addfile(info, source)
        _add(tar, "index.json", _index(_entries(manifest, names)))
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
