"""OCI image layouts, read and written: as a directory, or as a tar (OCI image-layout.md)."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING

from ..errors import BuildError
from . import reference as references
from .descriptor import Descriptor, Layer
from .digest import Digest
from .layout_files import LayoutFiles
from .layout_index import IMAGE_NAME, LIMIT, REF_NAME, NamedEntry, dump_index, parse_foreign_index
from .manifest import Index, find_manifest
from .staging import Staging
from .whole_file import has_content, open_regular, replaced

if TYPE_CHECKING:
    import tarfile

Opener = Callable[[Descriptor], IO[bytes]]
"""Opens a blob. Reading it raises BuildError if it is not what its descriptor says."""

Found = list[tuple[Descriptor, list[str]]]
"""The manifests of the images in an archive, each with the names that the archive gives it."""

_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'
_DOCUMENTS = 64 << 20
"""Bytes of the indexes and manifests of one layout together."""


def blob_path(digest: str) -> str:
    """Return the path of a blob in a layout."""
    return "blobs/" + digest.replace(":", "/", 1)


# reading


def is_layout(files: LayoutFiles) -> bool:
    """Whether these are the files of an image layout."""
    return files.has("index.json") and files.has("oci-layout")


def load_layout(files: LayoutFiles, staging: Staging, platform: str, only: str = "") -> Found:
    """Add the images of a layout, or the one whose tag or digest is ``only``. Raise BuildError if one is damaged."""
    found: dict[str, tuple[Descriptor, list[str]]] = {}
    staged: dict[str, Descriptor] = {}
    read = _DocumentReader(files)
    for entry in Index.parse(files.read("index.json"), f"index.json in {files.path}").entries:
        annotations = entry.annotations
        digest = entry.descriptor.digest
        if only and only not in (annotations.get(REF_NAME), digest):
            continue
        if digest not in staged:
            staged[digest] = _load_manifest(files, read, staging, entry.descriptor, platform)
        descriptor = staged[digest]
        _, names = found.setdefault(descriptor.digest, (descriptor, []))
        # Without a colon or a slash it is a tag, and says nothing of the image's name.
        texts = (annotations.get(IMAGE_NAME), annotations.get(REF_NAME))
        full = next((text for text in texts if text and (":" in text or "/" in text)), None)
        if full is not None and (name := str(references.parse(full))) not in names:
            names.append(name)
    return list(found.values())


class _DocumentReader:
    """Reads the documents of one layout, and no more of them together than a layout needs."""

    def __init__(self, files: LayoutFiles) -> None:
        self._files = files
        self._left = _DOCUMENTS

    def __call__(self, item: Descriptor) -> bytes:
        data = self._files.read(blob_path(item.digest))
        self._left -= len(data)
        if self._left < 0:
            raise BuildError(f"{self._files.path} has more than 64 MiB of indexes and manifests")
        if Digest.of(data) != item.digest:
            raise BuildError(f"the blob {item.digest} is damaged: its digest is {Digest.of(data)}")
        return data


def _load_manifest(
    files: LayoutFiles, read: _DocumentReader, staging: Staging, entry: Descriptor, platform: str
) -> Descriptor:
    what = f"the manifest {entry.digest}"
    data, manifest = find_manifest(read(entry), entry.media_type, platform, what, read)
    staging.image(manifest, what, lambda item: files.chunks(blob_path(item.digest)))
    return staging.add([data], manifest.media_type)


# writing


def _entries(manifest: Descriptor, names: Sequence[str]) -> list[NamedEntry]:
    if not names:
        return [NamedEntry.of(manifest)]
    out = []
    for name in names:
        tag = name.rpartition("/")[2].partition(":")[2] or "latest"
        out.append(NamedEntry.of(manifest, {IMAGE_NAME: name, REF_NAME: tag}))
    return out


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
    """Write an image to a layout in a directory, which is made if it is missing.

    Other images of the layout stay, unless they have one of the same names; so do blobs that are whole. Raise
    BuildError, before anything is written, if the directory has an ``index.json`` that is malformed.
    """
    before = _present(directory)
    os.makedirs(os.path.join(directory, "blobs", "sha256"), exist_ok=True)
    for item in _blobs(manifest, config, layers):
        path = os.path.join(directory, blob_path(item.digest))
        if not _is_whole(path, item):
            with open_blob(item) as source, replaced(path) as target:
                shutil.copyfileobj(source, target, 1 << 20)
    entries = _entries(manifest, names)
    taken = {text for item in entries for text in (item.shown_name, item.name) if text}
    same = NamedEntry.of(manifest).value
    kept = [item for item in before if item.shown_name not in taken and item.value != same]
    index = dump_index([*kept, *entries], os.path.join(directory, "index.json"))
    for name, data in (("index.json", index), ("oci-layout", _LAYOUT)):
        with replaced(os.path.join(directory, name)) as out:
            out.write(data)


def _present(directory: str) -> list[NamedEntry]:
    """Return the entries of a layout that is there."""
    path = os.path.join(directory, "index.json")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with os.fdopen(fd, "rb") as stream:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"{path} is not a regular file", hint="name another directory with dest=")
        try:
            return parse_foreign_index(stream.read(LIMIT + 1), path)
        except BuildError as error:
            raise BuildError(
                error.what, hint="name another directory with dest=, or remove the file"
            ) from None


def _is_whole(path: str, item: Descriptor) -> bool:
    """Whether a blob of the layout is there and is what its descriptor says."""
    try:
        stream = open_regular(path)
    except PermissionError:
        return False  # it is replaced
    if stream is None:
        return False
    with stream:
        return has_content(stream, item.digest, item.size)


def write_layout_archive(
    tar: tarfile.TarFile,
    manifest: Descriptor,
    config: Descriptor,
    layers: Sequence[Layer],
    names: Sequence[str],
    open_blob: Opener,
) -> None:
    """Write a layout with one image to a tar."""
    import tarfile

    add_file(tar, "oci-layout", _LAYOUT)
    for item in _blobs(manifest, config, layers):
        with open_blob(item) as source:
            info = tarfile.TarInfo(blob_path(item.digest))
            info.size, info.mode = item.size, 0o644
            tar.addfile(info, source)
    add_file(tar, "index.json", dump_index(_entries(manifest, names), "index.json"))


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a small file to a tar."""
    import tarfile

    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
