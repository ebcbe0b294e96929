"""``type=local`` and ``type=tar``: the files of an image, without the user's own being touched."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from image_blobs import Blobs

from buildfront.errors import BuildError
from buildfront.export.files import write_directory, write_rootfs_tar
from buildfront.image.descriptor import Layer

OWNER = (os.getuid(), os.getgid())


def write(tmp_path: Path, blobs: Blobs, *layers: Layer) -> Path:
    """Write the layers to the directory ``out``."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write_directory(str(tmp_path / "out"), str(scratch), layers, blobs.open, owner=OWNER)
    return tmp_path / "out"


def test_layers_are_applied_in_their_order(tmp_path: Path) -> None:
    blobs = Blobs()
    layers = [
        blobs.layer(("kept", b"1"), ("changed", b"1"), ("removed", b"1"), ("dir/", b""), ("dir/a", b"1")),
        blobs.layer(("changed", b"2"), (".wh.removed", b""), ("dir/.wh..wh..opq", b""), ("dir/b", b"2")),
    ]
    out = write(tmp_path, blobs, *layers)
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == {"kept": b"1", "changed": b"2", "dir/b": b"2"}


def test_files_of_the_user_stay_whatever_a_layer_removes(tmp_path: Path) -> None:
    (tmp_path / "out/dir").mkdir(parents=True)
    (tmp_path / "out/dir/mine").write_text("mine")
    (tmp_path / "out/old").write_text("mine")
    blobs = Blobs()
    layer = blobs.layer((".wh.old", b""), ("dir/", b""), ("dir/.wh..wh..opq", b""), ("dir/new", b"new"))
    out = write(tmp_path, blobs, layer)
    assert (out / "dir/mine").read_text() == (out / "old").read_text() == "mine"
    assert (out / "dir/new").read_text() == "new"


def test_a_directory_in_the_way_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "out/name").mkdir(parents=True)
    (tmp_path / "out/name/mine").write_text("mine")
    blobs = Blobs()
    with pytest.raises(BuildError, match="directory with files in it"):
        write(tmp_path, blobs, blobs.layer(("a", b"1"), ("name", b"2")))
    assert sorted(os.listdir(tmp_path / "out")) == ["name"]
    assert (tmp_path / "out/name/mine").read_text() == "mine"


def test_a_layer_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    blobs = Blobs()
    layer = blobs.layer(("a", b"1"))
    with pytest.raises(BuildError):
        write(tmp_path, blobs, replace(layer, diff_id="sha256:" + "0" * 64))
    assert not (tmp_path / "out").exists()


def test_a_layer_that_ends_too_soon_is_refused(tmp_path: Path) -> None:
    blobs = Blobs()
    whole = blobs.data[blobs.layer(("a", b"1")).descriptor.digest]
    item = blobs.add(gzip.compress(whole)[:-20], "application/vnd.oci.image.layer.v1.tar+gzip")
    with pytest.raises(BuildError, match="cut off"):
        write(tmp_path, blobs, Layer(item, "sha256:" + hashlib.sha256(whole).hexdigest()))
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    blobs = Blobs()
    item = blobs.add(b"not a tar" * 100, "application/vnd.oci.image.layer.v1.tar")
    with pytest.raises(BuildError, match="tar header"):
        write(tmp_path, blobs, Layer(item, item.digest))
    assert not (tmp_path / "out").exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to their owners")
def test_a_tar_has_the_files_of_all_layers(tmp_path: Path) -> None:
    blobs = Blobs()
    out = io.BytesIO()
    layers = [blobs.layer(("a", b"1"), ("b", b"1")), blobs.layer((".wh.a", b""), ("c", b"2"))]
    write_rootfs_tar(out, str(tmp_path), layers, blobs.open)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert [item.name.strip("./") for item in tar if item.isfile()] == ["b", "c"]
