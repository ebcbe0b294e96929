"""Outputs write the image's files and touch nothing else: in directories, layouts, and places that are no files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import as_user
import pytest
from mount_builds import Place, Way

DOCKERFILE = """\
FROM box
RUN rm -r /data /home/bob && mkdir -p /app/sub && echo new > /app/file && echo deep > /app/sub/file
RUN rm /app/file && ln -s /etc/passwd /app/link && echo last > /app/last
RUN rm -r /tmp && mkdir /tmp && echo again > /tmp/again
"""


@pytest.fixture
def app(box: Any) -> Any:
    box.app = box.context(DOCKERFILE)
    return box


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_users_files_stay(app: Any, tmp_path: Path) -> None:
    """Whatever a layer removes: files of the user's of that name, in that directory, and in one that it replaced."""
    out = tmp_path / "out"
    mine = [
        write(out / name, f"mine {name}")
        for name in (
            "data/kept",
            "data/own",
            "home/bob/letter",
            "app/file",
            "app/other",
            "tmp/mine",
            "top",
            "etc/mine",
        )
    ]
    app.build(app.app, "-o", f"type=local,dest={out}")
    for path in mine:
        assert path.read_text() == f"mine {path.relative_to(out)}"
    assert (out / "app/last").read_text() == "last\n"
    assert (out / "tmp/again").read_text() == "again\n"
    assert os.readlink(out / "app/link") == "/etc/passwd"
    assert os.listdir(tmp_path / "store" / "tmp") == []


def test_the_images_files_replace_those_of_their_names(app: Any, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    write(outside / "kept", "kept")
    write(out / "app/last", "old")
    os.symlink(outside, out / "app/link")
    os.symlink(outside, out / "tmp")
    write(out / "data", "a file that the image has no word of")
    os.link(out / "app/last", tmp_path / "second name")
    app.build(app.app, "-o", f"type=local,dest={out}")
    app.build(app.app, "-o", str(out))
    assert (out / "app/last").read_text() == "last\n"
    assert (tmp_path / "second name").read_text() == "old"
    assert os.readlink(out / "app/link") == "/etc/passwd"
    assert not (out / "tmp").is_symlink() and (out / "tmp/again").read_text() == "again\n"
    assert os.listdir(outside) == ["kept"]
    assert (out / "data").read_text() == "a file that the image has no word of"


def test_a_directory_of_the_users_is_not_removed_for_a_file(app: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "app/last").mkdir(parents=True)
    app.build(app.app, "-o", str(out))
    assert (out / "app/last").read_text() == "last\n"  # it was empty
    (out / "app/last").unlink()
    write(out / "app/last/mine", "mine")
    before = sorted(str(path) for path in out.rglob("*"))
    done = app.build(app.app, "-o", str(out), check=False)
    assert done.returncode == 1
    assert (
        f"error: {out}/app/last is a directory with files in it, and the image has a file there"
        in done.stderr
    )
    assert sorted(str(path) for path in out.rglob("*")) == before


def test_the_directory_itself_keeps_its_mode(app: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o700)
    os.chown(out, 1234, 1234)
    app.build(app.app, "-o", str(out))
    status = os.stat(out)
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, 1234)


def test_on_another_filesystem(app: Any, tmp_path: Path) -> None:
    """Files are copied there: hard links stay, and nothing is left beside them."""
    code = f"""
mount -t tmpfs tmpfs {tmp_path}/other && mkdir {tmp_path}/other/out && echo mine > {tmp_path}/other/out/mine
mkdir -p {tmp_path}/other/out/bin && echo old > {tmp_path}/other/out/bin/one
exec "$@"
"""
    (tmp_path / "other").mkdir()
    context = app.context("FROM box\nRUN echo a > /bin/one && ln /bin/one /bin/two && ln /bin/one /three\n")
    script = f"""
import os, subprocess, sys
out = "{tmp_path}/other/out"
subprocess.run(sys.argv[1:], check=True)
assert open(out + "/mine").read() == "mine\\n"
assert open(out + "/bin/one").read() == "a\\n"
assert os.stat(out + "/bin/one").st_ino == os.stat(out + "/bin/two").st_ino == os.stat(out + "/three").st_ino
assert os.stat(out + "/three").st_nlink == 3
found = [name for _, _, names in os.walk(out) for name in names if name.startswith(".")]
assert found == [], found
"""
    from program import BUILDFRONT

    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        code,
        "sh",
        "python3",
        "-c",
        script,
    ]
    words += [BUILDFRONT, "--root", str(app.store), "build", "-o", f"{tmp_path}/other/out", str(context)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# layouts


def names(path: Path) -> set[str]:
    entries = json.loads((path / "index.json").read_text())["manifests"]
    return {item["annotations"]["io.containerd.image.name"] for item in entries}


def test_a_layout_keeps_its_other_images(app: Any, tmp_path: Path) -> None:
    out = tmp_path / "layout"
    spec = f"type=oci,dest={out},tar=false"
    app.build(app.app, "-t", "one:1", "-o", spec)
    app.build(app.context("FROM box\n"), "-t", "two:2", "-o", spec)
    app.build(app.app, "-t", "one:1", "-o", spec)
    assert names(out) == {"docker.io/library/one:1", "docker.io/library/two:2"}
    assert len(json.loads((out / "index.json").read_text())["manifests"]) == 2
    assert (
        subprocess.run(["skopeo", "inspect", f"oci:{out}:2"], capture_output=True, check=False).returncode
        == 0
    )


def test_a_layouts_damaged_blobs_and_links_are_replaced(app: Any, tmp_path: Path) -> None:
    out, outside = tmp_path / "layout", write(tmp_path / "outside", "mine")
    spec = f"type=oci,dest={out},tar=false"
    app.build(app.app, "-t", "one:1", "-o", spec)
    blobs = sorted((out / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blobs[0].write_bytes(b"x" * blobs[0].stat().st_size)
    blobs[1].unlink()
    blobs[1].symlink_to(outside)
    (out / "oci-layout").unlink()
    (out / "oci-layout").symlink_to(outside)
    app.build(app.app, "-t", "one:1", "-o", spec)
    assert outside.read_text() == "mine"
    app.store = tmp_path / "second"
    assert app("load", "-i", out).stdout == "loaded docker.io/library/one:1\n"


# what is no file


def test_a_device_a_fifo_and_a_link_are_written_to(app: Any, tmp_path: Path) -> None:
    null = tmp_path / "null"
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    app.build(app.app, "-o", f"type=tar,dest={null}")
    assert stat.S_ISCHR(null.lstat().st_mode)
    real = write(tmp_path / "real/file.tar", "old")
    link = tmp_path / "link.tar"
    link.symlink_to(real)
    app.build(app.app, "-o", f"type=oci,dest={link}")
    assert link.is_symlink() and real.stat().st_size > 1000
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["wc", "-c", str(fifo)], stdout=subprocess.PIPE, text=True) as reader:
        app.build(app.app, "-o", f"type=oci,dest={fifo}")
        counted, _ = reader.communicate(timeout=60)
    assert int(counted.split()[0]) == real.stat().st_size
    assert stat.S_ISFIFO(fifo.lstat().st_mode)


@pytest.mark.parametrize("kind", ["oci", "docker", "tar"])
def test_a_directory_is_no_file(app: Any, kind: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    done = app.build(app.app, "-o", f"type={kind},dest={tmp_path}/there", check=False)
    assert done.returncode == 1
    assert f"error: the output {tmp_path}/there is a directory" in done.stderr


@pytest.mark.parametrize("kind", ["local", "oci", "tar"])
def test_a_place_that_can_not_be_written(app: Any, kind: str, tmp_path: Path) -> None:
    write(tmp_path / "file", "mine")
    done = app.build(app.app, "-o", f"type={kind},dest={tmp_path}/file/out", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"the output {tmp_path}/file/out can't be written" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(app.store / "tmp") == []


def test_as_an_ordinary_user(place_of: Callable[..., Place]) -> None:
    """What the user has stays, and what is written belongs to the user."""
    place = place_of(Way("chroot", user=True))
    (place.outside / "Dockerfile").write_text(DOCKERFILE)
    out = place.path / "out"
    write(out / "data/kept", "mine")
    for path in (out, out / "data", out / "data/kept"):
        os.chown(path, as_user.UID, as_user.UID)
    place.run("build", "-o", out, place.outside)
    assert (out / "data/kept").read_text() == "mine"
    assert (out / "app/last").stat().st_uid == as_user.UID
