"""OCI layouts and archives: what is written, and what stays of a layout that is there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_blobs import Blobs

from buildfront.errors import BuildError
from buildfront.image.docker_archive import write_docker_manifest
from buildfront.image.oci_layout import write_layout, write_layout_archive

NAME = "io.containerd.image.name"
REF = "org.opencontainers.image.ref.name"


def names_in(directory: Path) -> list[tuple[str, str, str]]:
    """The digest and both names of each image in a layout."""
    entries = json.loads((directory / "index.json").read_text())["manifests"]
    return [
        (item["digest"], *(item.get("annotations", {}).get(key, "") for key in (NAME, REF)))
        for item in entries
    ]


def write(directory: Path, content: bytes, *names: str) -> tuple[Blobs, str]:
    """Write an image of one file; return the blobs and the digest of the manifest."""
    blobs = Blobs()
    layer = blobs.layer(("file", content))
    manifest, config = blobs.image(layer)
    write_layout(str(directory), manifest, config, [layer], names, blobs.open)
    return blobs, manifest.digest


def test_a_layout_has_every_blob_under_its_digest(tmp_path: Path) -> None:
    blobs, digest = write(tmp_path / "new" / "layout", b"content", "example.com/app:1")
    layout = tmp_path / "new" / "layout"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    stored = {f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}
    assert stored == blobs.data
    assert all("sha256:" + hashlib.sha256(data).hexdigest() == name for name, data in stored.items())
    assert names_in(layout) == [(digest, "example.com/app:1", "1")]


@pytest.mark.parametrize(
    ("name", "tag"),
    [("example.com/app", "latest"), ("example.com:5000/app", "latest"), ("example.com:5000/app:v2", "v2")],
)
def test_a_reference_is_annotated_by_its_tag(tmp_path: Path, name: str, tag: str) -> None:
    _, digest = write(tmp_path, b"content", name)
    assert names_in(tmp_path) == [(digest, name, tag)]


def test_images_of_other_names_stay(tmp_path: Path) -> None:
    _, first = write(tmp_path, b"first", "example.com/first:1")
    _, second = write(tmp_path, b"second", "example.com/second:2")
    _, third = write(tmp_path, b"third", "example.com/first:1")
    assert [(digest, name) for digest, name, _ in names_in(tmp_path)] == [
        (second, "example.com/second:2"),
        (third, "example.com/first:1"),
    ]
    assert (tmp_path / "blobs/sha256" / first.removeprefix("sha256:")).exists()


def test_an_image_is_in_a_layout_once(tmp_path: Path) -> None:
    for _ in range(2):
        _, digest = write(tmp_path, b"content")
    assert names_in(tmp_path) == [(digest, "", "")]


def test_whole_blobs_are_not_written_again_and_others_are(tmp_path: Path) -> None:
    blobs, _ = write(tmp_path, b"content", "app:1")
    paths = {name: tmp_path / "blobs/sha256" / name.removeprefix("sha256:") for name in blobs.data}
    damaged, short, link = (name for name in blobs.data)
    paths[damaged].write_bytes(b"x" * len(blobs.data[damaged]))
    paths[short].write_bytes(b"")
    paths[link].unlink()
    paths[link].symlink_to(tmp_path / "elsewhere")
    again, _ = write(tmp_path, b"content", "app:1")
    assert set(again.opened) == set(blobs.data)
    assert {name: path.read_bytes() for name, path in paths.items()} == blobs.data
    assert not (tmp_path / "elsewhere").exists(), "a link was followed"
    assert write(tmp_path, b"content", "app:1")[0].opened == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"manifests": [1]}', '{"manifests": {}}'])
def test_an_index_that_is_none_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(BuildError) as caught:
        write(tmp_path, b"content")
    assert "index.json" in caught.value.what
    assert "dest=" in caught.value.hint
    assert os.listdir(tmp_path) == ["index.json"]
    assert (tmp_path / "index.json").read_text() == text


def test_an_index_that_is_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(BuildError, match="regular file"):
        write(tmp_path, b"content")


def test_a_blob_that_can_not_be_read_leaves_no_half_of_it(tmp_path: Path) -> None:
    blobs = Blobs()
    layer = blobs.layer(("file", b"content"))
    manifest, config = blobs.image(layer)

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise BuildError("the blob is damaged")

    with pytest.raises(BuildError, match="damaged"):
        write_layout(str(tmp_path), manifest, config, [layer], ["app"], lambda _: Broken())
    assert list((tmp_path / "blobs/sha256").iterdir()) == []
    assert not (tmp_path / "index.json").exists()


@pytest.mark.parametrize("docker", [False, True])
def test_an_archive_is_a_layout_in_a_tar(docker: bool) -> None:
    blobs = Blobs()
    layers = [blobs.layer(("a", b"1")), blobs.layer(("b", b"2")), blobs.layer(("a", b"1"))]
    manifest, config = blobs.image(*layers)
    out = io.BytesIO()
    names = ["example.com/app:1"]
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        write_layout_archive(tar, manifest, config, layers, names, blobs.open)
        if docker:
            write_docker_manifest(tar, config, layers, names)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        names = tar.getnames()
        content = {name: tar.extractfile(name).read() for name in names}
    assert len(names) == len(set(names)), "a blob that is there twice is written once"
    for digest, data in blobs.data.items():
        assert content["blobs/" + digest.replace(":", "/")] == data
    assert json.loads(content["index.json"])["manifests"][0]["digest"] == manifest.digest
    assert ("manifest.json" in names) is docker
    if docker:
        (entry,) = json.loads(content["manifest.json"])
        assert entry["RepoTags"] == ["example.com/app:1"]
        assert content[entry["Config"]] == blobs.data[config.digest]
        assert [content[path] for path in entry["Layers"]] == [
            blobs.data[layer.descriptor.digest] for layer in layers
        ]


@pytest.mark.parametrize(
    "entry",
    [
        {"mediaType": "m", "digest": "sha256:1", "size": 1, "annotations": None},
        {"digest": "sha256:1", "size": 5.0},
        {"mediaType": "m", "annotations": {"a": "b"}, "other": [1]},
    ],
)
def test_entries_of_other_programs_stay_as_they_are(tmp_path: Path, entry: dict[str, Any]) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [entry]}))
    write(tmp_path, b"content", "example.com/app:1")
    entries = json.loads((tmp_path / "index.json").read_text())["manifests"]
    assert entries[0] == entry and len(entries) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"manifests": [{"x": NaN}]}',
        '{"manifests": [{"x": ' + "[" * 200 + "]" * 200 + "}]}",
        '{"manifests": [' + "{}," * 600_000 + "{}]}",
        '{"manifests": [{"digest": 1}]}',
        '{"manifests": 3}',
        "[]",
    ],
    ids=["NaN", "deep", "many", "digest", "number", "list"],
)
def test_an_index_that_could_not_be_kept_is_refused_before_anything_is_written(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(BuildError, match=r"index\.json"):
        write(tmp_path, b"content", "example.com/app:1")
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]
