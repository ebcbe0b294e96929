"""Layouts and archives written and loaded by the blob protocol, with a plain directory behind it."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any

import pytest
from blob_directory import BlobDirectory, sink

from buildfront.errors import BuildError
from buildfront.image.built_image import BuiltImage
from buildfront.image.descriptor import Descriptor, Layer
from buildfront.image.digest import Digest
from buildfront.image.docker_archive import is_docker_archive, load_docker_archive, write_docker_manifest
from buildfront.image.documents import dumps
from buildfront.image.layout_files import LayoutFiles
from buildfront.image.manifest import Manifest, image_manifest
from buildfront.image.media_types import CONFIG, LAYER, LAYER_GZIP
from buildfront.image.oci_layout import is_layout, load_layout, write_layout, write_layout_archive
from buildfront.image.staging import Staging

NAMES = ["docker.io/library/app:1", "docker.io/library/app:two"]


def tar(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


class Image:
    """An image of two layers, one of them compressed, and its blobs."""

    def __init__(self, **changes: Any) -> None:
        plain = [tar(one="1"), tar(two="2")]
        blobs = [plain[0], gzip.compress(plain[1], mtime=0)]
        layers = tuple(
            Layer(Descriptor.of(blob, kind), Digest.of(content))
            for blob, content, kind in zip(blobs, plain, (LAYER, LAYER_GZIP), strict=True)
        )
        config = dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
                **changes,
            }
        )
        manifest = image_manifest(Descriptor.of(config, CONFIG), layers)
        self.built = BuiltImage(config, manifest, layers)
        self.blobs = {Digest.of(data): data for data in (config, manifest, *blobs)}

    def open(self, item: Descriptor) -> IO[bytes]:
        return io.BytesIO(self.blobs[item.digest])

    def layout(self, directory: Path, names: list[str]) -> Path:
        built = self.built
        found = built.manifest_descriptor, built.config_descriptor, built.layers
        write_layout(str(directory), *found, names, self.open)
        return directory

    def archive(self, path: Path, names: list[str], *, docker: bool, layout: bool = True) -> Path:
        built = self.built
        found = built.manifest_descriptor, built.config_descriptor, built.layers
        whole = path.with_suffix(".whole")
        with tarfile.open(whole, "w") as out:
            write_layout_archive(out, *found, names, self.open)
            if docker:
                write_docker_manifest(out, built.config_descriptor, built.layers, names)
        with tarfile.open(whole) as source, tarfile.open(path, "w") as out:
            for member in source:
                if layout or member.name not in ("index.json", "oci-layout"):
                    out.addfile(member, source.extractfile(member))
        return path


@pytest.fixture
def image() -> Image:
    return Image()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDirectory:
    return BlobDirectory(tmp_path / "blobs")


def test_a_directory_of_blobs_has_the_protocol(tmp_path: Path) -> None:
    writer = sink(tmp_path).blob()
    writer.write(b"da")
    writer.write(b"ta")
    assert (writer.size, writer.digest) == (4, Digest.of(b"data"))
    with writer.reopen() as stream:
        assert stream.read() == b"data"
    assert writer.commit("text") == Descriptor("text", Digest.of(b"data"), 4)


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_a_layout_that_was_written_is_loaded(
    image: Image, blobs: BlobDirectory, tmp_path: Path, kind: str
) -> None:
    path = (
        image.layout(tmp_path / "layout", NAMES)
        if kind == "directory"
        else image.archive(tmp_path / "x.tar", NAMES, docker=False)
    )
    files = LayoutFiles(str(path))
    assert is_layout(files) and not is_docker_archive(files)
    staging = Staging(blobs)
    ((descriptor, names),) = load_layout(files, staging, "linux/amd64")
    assert not [name for name in blobs.names() if not name.startswith("new-")], "nothing before the commit"
    staging.commit()
    assert (descriptor, set(names)) == (image.built.manifest_descriptor, set(NAMES))
    assert blobs.names() == sorted(digest.hex for digest in image.blobs)
    assert blobs.layers == set(image.built.layers)
    assert Manifest.parse(blobs.read_blob(descriptor.digest), "it").layers == tuple(
        layer.descriptor for layer in image.built.layers
    )


@pytest.mark.parametrize("wanted", ["two", "digest", "three"])
def test_one_image_of_a_layout_is_loaded(blobs: BlobDirectory, tmp_path: Path, wanted: str) -> None:
    one, two = Image(), Image(author="two")
    path = one.layout(tmp_path / "layout", ["example.com/app:one"])
    two.layout(path, ["example.com/app:two"])
    only = two.built.manifest_descriptor.digest if wanted == "digest" else wanted
    found = load_layout(LayoutFiles(str(path)), Staging(blobs), "linux/amd64", only)
    assert found == ([] if wanted == "three" else [(two.built.manifest_descriptor, ["example.com/app:two"])])


def test_a_docker_archive_that_was_written_is_loaded(
    image: Image, blobs: BlobDirectory, tmp_path: Path
) -> None:
    files = LayoutFiles(str(image.archive(tmp_path / "x.tar", NAMES, docker=True, layout=False)))
    assert is_docker_archive(files) and not is_layout(files)
    staging = Staging(blobs)
    ((descriptor, names),) = load_docker_archive(files, staging)
    staging.commit()
    assert names == NAMES
    assert Manifest.parse(blobs.read_blob(descriptor.digest), "it").layers == tuple(
        layer.descriptor for layer in image.built.layers
    )


def test_blobs_that_are_there_are_not_read(image: Image, blobs: BlobDirectory, tmp_path: Path) -> None:
    path = image.layout(tmp_path / "layout", [])
    staging = Staging(blobs)
    load_layout(LayoutFiles(str(path)), staging, "linux/amd64")
    staging.commit()
    for layer in image.built.layers:
        (path / "blobs" / "sha256" / layer.descriptor.digest.hex).unlink()
    assert load_layout(LayoutFiles(str(path)), Staging(blobs), "linux/amd64")


FAULTS = {
    "layer": "longer than its descriptor",
    "layer-missing": "lacks",
    "config": "longer than its descriptor",
    "manifest": "is damaged",
    "diff-id": "does not hold what its image says",
    "number": "the manifest has 2 layers and the config 1",
    "index": "not JSON",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_layout_leaves_nothing(blobs: BlobDirectory, tmp_path: Path, fault: str) -> None:
    changes: dict[str, Any] = {}
    if fault in ("diff-id", "number"):
        wrong = ["sha256:" + "0" * 64] * (2 if fault == "diff-id" else 1)
        changes = {"rootfs": {"type": "layers", "diff_ids": wrong}}
    image = Image(**changes)
    path = image.layout(tmp_path / "layout", NAMES)
    digests = {
        "layer": image.built.layers[1].descriptor.digest,
        "layer-missing": image.built.layers[0].descriptor.digest,
        "config": image.built.config_descriptor.digest,
        "manifest": image.built.manifest_descriptor.digest,
    }
    if fault == "index":
        (path / "index.json").write_text("{")
    elif fault == "layer-missing":
        (path / "blobs" / "sha256" / digests[fault].hex).unlink()
    elif fault in digests:
        with open(path / "blobs" / "sha256" / digests[fault].hex, "ab") as out:
            out.write(b"more")
    staging = Staging(blobs)
    with pytest.raises(BuildError, match=FAULTS[fault]):
        load_layout(LayoutFiles(str(path)), staging, "linux/amd64")
    assert not [name for name in blobs.names() if not name.startswith("new-")]


def test_other_images_of_a_layout_stay(image: Image, tmp_path: Path) -> None:
    path = image.layout(tmp_path / "layout", ["example.com/app:1"])
    index = json.loads((path / "index.json").read_text())
    strange = {"mediaType": "a/b", "digest": "sha512:" + "0" * 128, "size": 1, "unknown": [1]}
    index["manifests"].append(strange)
    (path / "index.json").write_text(json.dumps(index))
    Image(author="two").layout(path, ["example.com/app:2"])
    entries = json.loads((path / "index.json").read_text())["manifests"]
    assert entries[:2] == index["manifests"] and len(entries) == 3
    Image(author="three").layout(path, ["example.com/app:2"])
    assert len(json.loads((path / "index.json").read_text())["manifests"]) == 3
    assert not [name for name in os.listdir(path) if name.endswith(".new")]


@pytest.mark.parametrize("what", ["damaged", "link", "fifo", "short"])
def test_a_blob_of_a_layout_that_is_not_whole_is_written_again(
    image: Image, tmp_path: Path, what: str
) -> None:
    path = image.layout(tmp_path / "layout", [])
    blob = path / "blobs" / "sha256" / image.built.layers[0].descriptor.digest.hex
    content = blob.read_bytes()
    blob.unlink()
    if what == "link":
        (tmp_path / "other").write_bytes(content)
        blob.symlink_to(tmp_path / "other")
    elif what == "fifo":
        os.mkfifo(blob)
    else:
        blob.write_bytes(b"x" * len(content) if what == "damaged" else content[:-1])
    image.layout(path, [])
    assert not blob.is_symlink() and blob.read_bytes() == content


def test_what_expands_without_end_is_not_kept_in_memory(blobs: BlobDirectory) -> None:
    """A layer's tar is hashed as it comes out of its compression."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    blob = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(64)) + compressor.flush()
    staging = Staging(blobs)
    layer = Layer(staging.add([blob], LAYER_GZIP), Digest.of(bytes(64 << 20)))
    staging.check_layer(layer)
    staging.commit()
    assert blobs.layers == {layer}
