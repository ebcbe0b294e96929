"""Images into the store and out of it: archives, layouts, root filesystems, registries.

Everything that comes in is checked before anything of it is kept: a failed load leaves the store as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from .errors import BuildError
from .image import platform as platforms
from .image import reference as references
from .image.compression import kind, reader, unreadable
from .image.model import (
    CONFIG,
    INDEXES,
    LAYER,
    LAYER_GZIP,
    LAYER_ZSTD,
    MANIFEST,
    MANIFESTS,
    Descriptor,
    Layer,
    digest_of,
    dumps,
    image_manifest,
)
from .image.tar_header import BLOCK, ArchiveError
from .image.tar_reader import TarReader
from .layout_files import LayoutFiles as _Files
from .layout_files import open_archive
from .names import find
from .store import Session, Store
from .store.blobs import BlobWriter

Report = Callable[[str], None]
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class Staging:
    """Blobs that wait in a session until all of an image has been checked."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[str, tuple[BlobWriter, str]] = {}

    def has(self, digest: str) -> bool:
        """Whether it is in the store or waiting."""
        return digest in self._waiting or self._session.store.has_blob(digest)

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
            if expected and writer.digest != expected:
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

    def commit(self) -> None:
        """Move everything into the store."""
        for writer, media_type in self._waiting.values():
            writer.commit(media_type)
        self._waiting.clear()


def _json(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise BuildError(f"{what} is no JSON") from None
    if not isinstance(value, dict):
        raise BuildError(f"{what} is no JSON object")
    return value


def pick(index: Mapping[str, Any], platform: str, what: str) -> dict[str, Any]:
    """The manifest of an index for a platform. Raises BuildError that names the platforms it has."""
    entries = [item for item in index.get("manifests", []) if isinstance(item, dict)]
    found: list[str] = []
    for item in entries:
        described = item.get("platform")
        if described is None:
            if len(entries) == 1:
                return item
            continue
        name = platforms.of(described)
        if name == platform or name.startswith(platform + "/"):
            return item
        found.append(name)
    raise BuildError(
        f"{what} has nothing for {platform}", hint=f"it has {', '.join(dict.fromkeys(found)) or 'nothing'}"
    )


def check_manifest(value: Mapping[str, Any], what: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The config's and the layers' descriptors. Raises BuildError for what is no image manifest."""
    config, layers = value.get("config"), value.get("layers")
    entries = [config, *(layers if isinstance(layers, list) else [])]
    if not isinstance(layers, list) or not all(
        isinstance(item, dict) and isinstance(item.get("digest"), str) and isinstance(item.get("size"), int)
        for item in entries
    ):
        raise BuildError(f"{what} is no image manifest")
    return entries[0], entries[1:]


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
    index = _json(files.read("index.json"), f"index.json in {files.path}")
    out: dict[str, tuple[Descriptor, list[str]]] = {}
    for entry in index.get("manifests", []):
        annotations = entry.get("annotations") or {}
        if only and only not in (annotations.get(_NAMES[1]), entry.get("digest")):
            continue
        descriptor = _stage_manifest(files, staging, entry, platform)
        names = []
        for text in (annotations.get(_NAMES[0]), annotations.get(_NAMES[1])):
            if text and (":" in text or "/" in text):
                names = [str(references.parse(text))]
                break
        known = out.setdefault(descriptor.digest, (descriptor, []))
        known[1].extend(name for name in names if name not in known[1])
    return list(out.values())


def _checked_digest(entry: Mapping[str, Any]) -> str:
    digest = entry.get("digest")
    if not isinstance(digest, str) or not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise BuildError(f"unsupported digest {digest!r}", hint="only sha256 is supported")
    return digest


def _stage_manifest(files: _Files, staging: Staging, entry: Mapping[str, Any], platform: str) -> Descriptor:
    digest = _checked_digest(entry)
    data = files.read(_blob_name(digest))
    if digest_of(data) != digest:
        raise BuildError(f"the blob {digest} is damaged: its digest is {digest_of(data)}")
    value = _json(data, f"the manifest {digest}")
    media_type = str(value.get("mediaType") or entry.get("mediaType") or MANIFEST)
    if media_type in INDEXES or "manifests" in value:
        return _stage_manifest(files, staging, pick(value, platform, files.path), platform)
    config, layers = check_manifest(value, f"the manifest {digest}")
    for item in (config, *layers):
        name = _checked_digest(item)
        if not staging.has(name):
            staging.add(files.chunks(_blob_name(name)), str(item.get("mediaType")), name, item["size"])
    return staging.add([data], media_type, digest)


def _load_docker(files: _Files, staging: Staging) -> list[tuple[Descriptor, list[str]]]:
    try:
        entries = json.loads(files.read("manifest.json"))
    except ValueError:
        raise BuildError(f"manifest.json in {files.path} is no JSON") from None
    out = []
    for entry in entries:
        raw = files.read(posixpath.normpath(entry["Config"]))
        config_value = _json(raw, f"the image config in {files.path}")
        diff_ids = (config_value.get("rootfs") or {}).get("diff_ids") or []
        if len(diff_ids) != len(entry["Layers"]):
            raise BuildError(
                f"{files.path}: the config has {len(diff_ids)} layers, the archive {len(entry['Layers'])}"
            )
        config = staging.add([raw], CONFIG, digest_of(raw))
        layers = []
        for name, diff_id in zip(entry["Layers"], diff_ids, strict=True):
            path = posixpath.normpath(name)
            with files.open(path) as stream:
                total = hashlib.sha256()
                head = stream.read(BLOCK)
                stream.seek(0)
                try:
                    uncompressed = reader(stream)
                    while data := uncompressed.read(1 << 20):
                        total.update(data)
                except unreadable() as error:
                    raise BuildError(f"{files.path} is cut off in {name}: {error}") from None
            found = "sha256:" + total.hexdigest()
            if found != diff_id:
                raise BuildError(
                    f"the layer {name} is damaged: its diff ID is {found}, and {diff_id} was expected"
                )
            compressed = kind(head)
            if compressed in ("xz", "bzip2"):  # no media type says so
                with files.open(path) as stream:
                    plain = reader(stream)
                    chunks = iter(lambda plain=plain: plain.read(1 << 20), b"")  # type: ignore[misc]
                    layers.append(Layer(staging.add(chunks, LAYER, diff_id), diff_id))
                continue
            media_type = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD}.get(compressed, LAYER)
            layers.append(Layer(staging.add(files.chunks(path), media_type), diff_id))
        manifest = staging.add([image_manifest(config, layers)], MANIFEST)
        out.append((manifest, [str(references.parse(tag)) for tag in entry.get("RepoTags") or []]))
    return out


class _Hashed:
    """Passes reads on and hashes what was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.hash.update(data)
        return data


def import_rootfs(store: Store, path: str, name: str, *, platform: str = "", message: str = "") -> Descriptor:
    """Make an image of one layer from a tar of a root filesystem, compressed or not.

    Raises BuildError for a tar that is damaged; the store is then as it was.
    """
    import time

    from .image.assemble import rfc3339

    full = str(references.parse(name))
    with store.session() as session, open_archive(path, session.path) as stream:
        staging = Staging(session)
        hashed = _Hashed(reader(stream))
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
            raise BuildError(f"{path} can't be imported: {error.strerror or error}") from None
        layer = Layer(added, "sha256:" + hashed.hash.hexdigest())
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
    """Pull an image for one platform and give it its name. Raises BuildError; nothing is kept then."""
    from concurrent.futures import ThreadPoolExecutor

    from .registry.client import Repository

    reference = references.parse(name)
    platform = platform or platforms.host()
    say = report or (lambda _: None)
    with store.session() as session, Repository(reference) as repository:
        staging = Staging(session)
        data, media_type = repository.manifest(reference.target)
        value = _json(data, f"the manifest of {name}")
        if media_type in INDEXES or "manifests" in value:
            chosen = pick(value, platform, reference.familiar)
            data, media_type = repository.manifest(_checked_digest(chosen))
            value = _json(data, f"the manifest of {name}")
        media_type = str(value.get("mediaType") or media_type)
        if media_type not in MANIFESTS:
            raise BuildError(f"{reference.familiar} is no image: its media type is {media_type}")
        config, layers = check_manifest(value, f"the manifest of {name}")
        wanted = {_checked_digest(item): item for item in (config, *layers)}
        missing = [item for digest, item in wanted.items() if not staging.has(digest)]

        def fetch(item: Mapping[str, Any]) -> None:
            digest = _checked_digest(item)
            say(f"pulling {digest[7:19]} ({item['size']} bytes)")
            staging.add(repository.blob(digest), str(item.get("mediaType")), digest, item["size"])

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(fetch, item) for item in missing]:
                done.result()
        descriptor = staging.add([data], media_type, digest_of(data))
        staging.commit()
    store.index.set(str(reference), descriptor.to_json())
    return descriptor


def push(store: Store, name: str, target: str = "", *, report: Report | None = None) -> str:
    """Push an image of the store under its own name or ``target``; returns the manifest's digest."""
    from concurrent.futures import ThreadPoolExecutor

    from .registry.client import Repository

    entry = find(store, name)
    if entry is None:
        raise BuildError(f"{name} is not in the store", hint="buildfront images lists what is")
    reference = references.parse(target or name)
    say = report or (lambda _: None)
    data = store.read_blob(entry["digest"])
    config, layers = check_manifest(_json(data, "the manifest"), "the manifest")
    blobs = {item["digest"]: item for item in (config, *layers)}
    with Repository(reference) as repository:

        def send(item: Mapping[str, Any]) -> None:
            digest = item["digest"]
            if repository.has_blob(digest):
                say(f"{digest[7:19]} is there already")
                return
            say(f"pushing {digest[7:19]} ({item['size']} bytes)")
            repository.upload(digest, item["size"], lambda: open(store.blob_path(digest), "rb"))

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(send, item) for item in blobs.values()]:
                done.result()
        repository.put_manifest(reference.tag or entry["digest"], data, entry["mediaType"])
    return str(entry["digest"])
