"""Images into the store and out of it: archives, layouts, root filesystems, registries.

Everything that comes in is checked before anything of it is kept: a failed load leaves the store as it was.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from .errors import BuildError
from .image import documents
from .image import platform as platforms
from .image import reference as references
from .image.compression import damaged, kind, layer_reader, reader, unreadable
from .image.documents import ImageConfig, Manifest
from .image.hashed import HashedReader
from .image.model import (
    CONFIG,
    LAYER,
    LAYER_GZIP,
    LAYER_ZSTD,
    MANIFEST,
    Descriptor,
    Layer,
    digest_of,
    dumps,
    image_manifest,
)
from .image.reference import Reference
from .image.tar_header import BLOCK, ArchiveError
from .image.tar_reader import TarReader
from .layout_files import LayoutFiles as _Files
from .layout_files import open_archive
from .store.blobs import BlobWriter
from .store.image_store import Session, Store
from .store.lookup import find
from .store.verified import MEND, is_whole, remember

Report = Callable[[str], None]
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class Staging:
    """Blobs that wait in a session until all of an image has been checked."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[str, tuple[BlobWriter, str]] = {}
        self._layers: set[tuple[str, str]] = set()

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether it is waiting, or in the store and whole. Raises BuildError where what waits has another size."""
        waiting = self._waiting.get(digest)
        if waiting is None:
            return is_whole(self._session.store, digest, size)
        if size is not None and waiting[0].size != size:
            raise BuildError(f"the blob {digest} has {waiting[0].size} bytes, and its descriptor says {size}")
        return True

    def add(
        self, chunks: Iterable[bytes], media_type: str, expected: str = "", size: int | None = None
    ) -> Descriptor:
        """Raises BuildError for another digest or size than ``expected``."""
        writer = self._session.blob()
        try:
            for chunk in chunks:
                writer.write(chunk)
                if size is not None and writer.size > size:
                    raise BuildError(f"the blob {expected} is longer than its descriptor says ({size} bytes)")
            if (expected and writer.digest != expected) or size not in (None, writer.size):
                why = (
                    f"{writer.size} of {size} bytes came"
                    if size not in (None, writer.size)
                    else "its content differs"
                )
                raise BuildError(f"the blob {expected} is damaged: its digest is {writer.digest} ({why})")
        except BaseException:
            writer.discard()
            raise
        self._waiting[writer.digest] = (writer, media_type)
        return Descriptor(media_type, writer.digest, writer.size)

    def document(self, chunks: Iterable[bytes], item: Descriptor) -> bytes:
        """The bytes of a blob that is a document, added where it is not here yet. Raises BuildError."""
        if item.size > documents.LIMIT:
            raise BuildError(f"the blob {item.digest} is too large for a document: {item.size} bytes")
        if not self.has(item.digest, item.size):
            self.add(chunks, item.media_type, item.digest, item.size)
        waiting = self._waiting.get(item.digest)
        if waiting is None:
            return self._session.store.read_blob(item.digest)
        with waiting[0].reopen() as stream:
            return stream.read()

    def check_layer(self, layer: Layer) -> None:
        """See that the blob, which is here, holds the tar of its diff ID. Raises BuildError."""
        item = layer.descriptor
        if self._session.store.catalogue.is_layer(item.digest, layer.diff_id):
            return
        waiting = self._waiting.get(item.digest)
        stored = self._session.store.blob_path(item.digest)
        with waiting[0].reopen() if waiting else open(stored, "rb") as stream:
            try:
                tar = HashedReader(layer_reader(stream, item.media_type))
                while tar.read(1 << 20):
                    pass
            except unreadable() as error:
                raise BuildError(f"the layer {item.digest} is damaged: {error}") from None
        tar.check(layer)
        self._layers.add((item.digest, layer.diff_id))

    def commit(self) -> None:
        """Move everything into the store."""
        store = self._session.store
        for writer, media_type in self._waiting.values():
            writer.commit(media_type)
        remember(store, list(self._waiting))
        store.catalogue.set_layers(sorted(self._layers))
        self._waiting.clear()
        self._layers.clear()


# archives and layouts


def load(store: Store, path: str, *, names: tuple[str, ...] = (), platform: str = "") -> list[str]:
    """Load an OCI or docker archive, or a layout directory; returns the names (or digests) that it gave.

    ``names`` replace the archive's own. Raises BuildError, the store then being as it was.
    """
    platform = platform or platforms.host()
    full = [str(references.parse(name)) for name in names]
    with store.session() as session:
        files = _Files(path, session.path)
        staging = Staging(session)
        if files.has("index.json") and files.has("oci-layout"):
            found = _load_layout(files, staging, platform)
        elif files.has("manifest.json"):
            found = _load_docker(files, staging)
        else:
            raise BuildError(f"{path} is neither an OCI image layout nor a docker archive")
        if not found:
            raise BuildError(f"{path} holds no image")
        staging.commit()
    out = []
    for descriptor, own in found:
        chosen = full or own
        for name in chosen or [""]:
            store.index.set(name, descriptor.to_json())
            out.append(name or descriptor.digest)
    return out


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _load_layout(
    files: _Files, staging: Staging, platform: str, only: str = ""
) -> list[tuple[Descriptor, list[str]]]:
    what = f"index.json in {files.path}"
    out: dict[str, tuple[Descriptor, list[str]]] = {}
    staged: dict[str, Descriptor] = {}
    read = _DocumentReader(files)
    for entry in documents.Index.parse(files.read("index.json"), what).entries:
        annotations = entry.annotations
        if only and only not in (annotations.get(_NAMES[1]), entry.descriptor.digest):
            continue
        digest = entry.descriptor.digest
        if digest not in staged:
            staged[digest] = _stage_manifest(files, read, staging, entry.descriptor, platform)
        descriptor = staged[digest]
        names = []
        for text in (annotations.get(_NAMES[0]), annotations.get(_NAMES[1])):
            if text and (":" in text or "/" in text):
                names = [str(references.parse(text))]
                break
        known = out.setdefault(descriptor.digest, (descriptor, []))
        known[1].extend(name for name in names if name not in known[1])
    return list(out.values())


class _DocumentReader:
    """Reads the documents of one archive, and no more of them together than an archive needs."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._left = 64 << 20

    def __call__(self, item: Descriptor) -> bytes:
        data = self._files.read(_blob_name(item.digest))
        self._left -= len(data)
        if self._left < 0:
            raise BuildError(f"{self._files.path} has more than 64 MiB of indexes and manifests")
        if digest_of(data) != item.digest:
            raise BuildError(f"the blob {item.digest} is damaged: its digest is {digest_of(data)}")
        return data


def _stage_manifest(
    files: _Files, read: _DocumentReader, staging: Staging, entry: Descriptor, platform: str
) -> Descriptor:
    what = f"the manifest {entry.digest}"
    data, manifest = documents.find_manifest(read(entry), entry.media_type, platform, what, read)
    _stage_image(staging, manifest, what, lambda item: files.chunks(_blob_name(item.digest)))
    return staging.add([data], manifest.media_type)


def _stage_image(
    staging: Staging,
    manifest: Manifest,
    what: str,
    read: Callable[[Descriptor], Iterable[bytes]],
    abort: Callable[[], None] = lambda: None,
) -> None:
    """Add the config and the layers of a manifest, each checked against what is said of it. ``abort`` makes reads that
    go on fail."""
    from .registry.together import each

    config = ImageConfig.parse(
        staging.document(read(manifest.config), manifest.config), f"the image config of {what}"
    )
    layers = config.layers(manifest, what)

    def stage(item: Descriptor) -> None:
        if not staging.has(item.digest, item.size):
            staging.add(read(item), item.media_type, item.digest, item.size)

    each((item for item in manifest.blobs if item is not manifest.config), stage, abort)
    each(dict.fromkeys(layers), staging.check_layer, abort)


def _stage_docker_layer(files: _Files, path: str, compressed: str, diff_id: str, staging: Staging) -> Layer:
    if compressed in ("xz", "bzip2"):  # no media type says so
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


def _load_docker(files: _Files, staging: Staging) -> list[tuple[Descriptor, list[str]]]:
    what = f"manifest.json in {files.path}"
    entries = documents.json_value(files.read("manifest.json"), what)
    out = []
    for fields in documents.Fields({"": entries}, what).objects("", 4096):
        raw = files.read(posixpath.normpath(fields.text("Config")))
        config_value = ImageConfig.parse(raw, f"the image config in {files.path}")
        names = fields.texts("Layers")
        if len(config_value.diff_ids) != len(names):
            raise BuildError(
                f"{files.path}: the config has {len(config_value.diff_ids)} layers, the archive {len(names)}"
            )
        config = staging.add([raw], CONFIG, digest_of(raw))
        layers = []
        for name, diff_id in zip(names, config_value.diff_ids, strict=True):
            path = posixpath.normpath(name)
            with files.open(path) as stream:
                compressed = kind(stream.read(BLOCK))
            try:
                layers.append(_stage_docker_layer(files, path, compressed, diff_id, staging))
            except BuildError as error:
                raise BuildError(f"the layer {name} in {files.path} is damaged: {error.what}") from None
        manifest = staging.add([image_manifest(config, layers)], MANIFEST)
        out.append((manifest, [str(references.parse(tag)) for tag in fields.texts("RepoTags")]))
    return out


def import_rootfs(store: Store, path: str, name: str, *, platform: str = "", message: str = "") -> Descriptor:
    """Make an image of one layer from a tar of a root filesystem, compressed or not.

    Raises BuildError for a tar that is damaged; the store is then as it was.
    """
    import time

    from .image.assemble import rfc3339

    full = str(references.parse(name))
    with store.session() as session, open_archive(path, session.path) as stream:
        staging = Staging(session)
        hashed = HashedReader(reader(stream))
        try:
            archive = TarReader(hashed)
            count = sum(1 for _ in archive)
            archive.drain()
        except ArchiveError as error:
            raise BuildError(f"{path} is no tar archive, or is cut off: {error.what}") from None
        except unreadable() as error:
            raise BuildError(f"{path} is no tar archive, or is cut off: {error}") from None
        if count == 0:
            raise BuildError(f"{path} is an empty archive")
        stream.seek(0)
        compressed = kind(stream.read(BLOCK))
        stream.seek(0)
        chosen = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD, "plain": LAYER}.get(compressed)
        if chosen is None:
            stream_in: IO[bytes] = reader(stream)
            chosen = LAYER
        else:
            stream_in = stream
        try:
            added = staging.add(iter(lambda: stream_in.read(1 << 20), b""), chosen)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise store.told(error) from None
            raise BuildError(f"{path} can't be imported: {error.strerror or error}") from None
        layer = Layer(added, hashed.diff_id)
        now = rfc3339(int(time.time()))
        config_value = {
            **platforms.to_json(platform or platforms.host()),
            "created": now,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [{"created": now, "created_by": "import", "comment": message or "buildfront import"}],
        }
        config = staging.add([dumps(config_value)], CONFIG)
        manifest = staging.add([image_manifest(config, [layer])], MANIFEST)
        staging.commit()
    store.index.set(full, manifest.to_json())
    return manifest


def load_layout_reference(store: Store, text: str, platform: str) -> Descriptor:
    """``oci-layout://PATH[:TAG|@DIGEST]``: the image, loaded without a name."""
    path, only = text.removeprefix("oci-layout://"), ""
    if "@" in path:
        path, _, only = path.partition("@")
    elif not os.path.exists(path) and ":" in path:
        path, _, only = path.rpartition(":")
    if not os.path.exists(path):
        raise BuildError(f"the image layout {path} does not exist")
    with store.session() as session:
        staging = Staging(session)
        found = _load_layout(_Files(path, session.path), staging, platform, only)
        if not found:
            raise BuildError(f"{path} has no image{f' called {only!r}' if only else ''}")
        staging.commit()
    return found[0][0]


# registries


def pull(store: Store, name: str, *, platform: str = "", report: Report | None = None) -> Descriptor:
    """Pull an image for one platform and give it its name. Raises BuildError; nothing is kept then.

    Blobs that the store has, and that are whole, are not fetched.
    """
    reference = references.parse(name)
    descriptor = _fetch(store, reference, reference.target, platform or platforms.host(), report)
    store.index.set(str(reference), descriptor.to_json())
    return descriptor


def repair(store: Store, reference: Reference, digest: str, *, report: Report | None = None) -> None:
    """Fetch what is missing or damaged of the image with this manifest, from the repository of its name. Raises
    BuildError where that does not have it."""
    _fetch(store, reference, digest, "", report)


def _fetch(
    store: Store, reference: Reference, target: str, platform: str, report: Report | None
) -> Descriptor:
    from .registry.answers import sensible
    from .registry.client import Repository

    say = report or (lambda _: None)
    what = f"the manifest of {reference.familiar}"
    with store.session() as session, sensible(reference.domain), Repository(reference) as repository:
        staging = Staging(session)

        def fetch(item: Descriptor) -> Iterator[bytes]:
            say(f"pulling {item.digest[7:19]} ({item.size} bytes)")
            yield from repository.blob(item.digest, item.size)

        data, media_type = repository.manifest(target)
        data, manifest = documents.find_manifest(
            data, media_type, platform, what, lambda item: repository.manifest(item.digest)[0]
        )
        _stage_image(staging, manifest, what, fetch, repository.abort)
        descriptor = staging.add([data], manifest.media_type)
        staging.commit()
    return descriptor


def push(store: Store, name: str, target: str = "", *, report: Report | None = None) -> str:
    """Push an image of the store under its own name or ``target``; returns the manifest's digest.

    Raises BuildError; what is missing or damaged is told before anything is sent.
    """
    from .registry.client import Repository
    from .registry.together import each

    entry = find(store, name)
    if entry is None:
        raise BuildError(f"{name} is not in the store", hint="buildfront images lists what is")
    reference = references.parse(target or name)
    say = report or (lambda _: None)
    digest = str(entry["digest"])
    data = store.read_blob(digest)
    manifest = Manifest.parse(data, f"the manifest of {name}")
    for item in manifest.blobs:
        if not is_whole(store, item.digest, item.size):
            raise BuildError(
                f"{name} can't be pushed: the blob {item.digest} is missing or damaged", hint=MEND
            )
    with Repository(reference, push=True) as repository:

        def send(item: Descriptor) -> None:
            if repository.has_blob(item.digest):
                say(f"{item.digest[7:19]} is there already")
                return
            say(f"pushing {item.digest[7:19]} ({item.size} bytes)")
            repository.upload(item.digest, item.size, lambda: open(store.blob_path(item.digest), "rb"))

        each(manifest.blobs, send, repository.abort)
        repository.put_manifest(reference.tag or digest, data, manifest.media_type)
    return digest
