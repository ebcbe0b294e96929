"""COPY and ADD to the letter, in real builds: layers that do not depend on their parent, flags, links, warnings."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import as_user
import pytest
from test_build_rootless import User
from test_build_rootless import context as user_context
from test_build_top import members

EVERYTHING = """\
FROM box AS one
RUN mkdir -p /d/e && echo x > /d/f && ln /d/f /d/e/hard && ln -s f /d/l && chmod 4711 /d/f && chmod 700 /d/e
FROM box
RUN mkdir -m 750 /t && ln -s /t /l && ln -s /data/none /dangling
COPY --from=one --chown=7:8 /d /t
COPY --from=one --parents --exclude=**/hard /d/./e /d/l /p
COPY --chmod=u=rwX,go=rX tree /m
COPY --chmod=1750 tree /n/o
COPY tree/f /dangling
COPY --link tree /l/m
COPY --link --chown=3:4 tree/f /data/
COPY none* tree/s?b /w
ADD --chown=5:6 tree.tar /a
ADD --unpack=false tree.tar /b/
COPY --exclude=s* --exclude=!sub <<EOF tree /h/
here
EOF
"""


def fill(context: Path) -> Path:
    (context / "tree/sub").mkdir(parents=True)
    (context / "tree/f").write_text("f")
    (context / "tree/sub/g").write_text("g")
    (context / "tree/sub/l").symlink_to("../f")
    (context / "tree/f").chmod(0o700)
    (context / "tree/sub").chmod(0o711)
    with tarfile.open(context / "tree.tar", "w") as tar:
        tar.add(context / "tree", "in/tree")
    return context


def seen(archive: Path) -> list[tuple[Any, ...]]:
    return [
        (item.name, item.type, oct(item.mode), item.uid, item.gid, item.size, item.linkname)
        for item in members(archive)
    ]


def test_both_kinds_of_snapshot_and_an_ordinary_user_give_the_same_layers(busybox_tar: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="copies-"))
    place.chmod(0o755)
    try:
        built = fill(user_context(place, EVERYTHING))
        for top, directories, files in os.walk(built):
            for name in (".", *directories, *files):
                os.chown(os.path.join(top, name), as_user.UID, as_user.UID, follow_symlinks=False)
        found = {}
        base = place / "box.tar"
        base.write_bytes(busybox_tar.read_bytes())
        for root in (True, False):
            for snapshots in ("overlay", "copy"):
                who = User(place / f"{root}-{snapshots}", root=root, snapshots=snapshots)
                who("import", base, "-t", "box")
                archive = who.home / "image.tar"
                who("build", "--isolation", "chroot", "-o", f"type=oci,dest={archive}", built)
                found[root, snapshots] = seen(archive)
        first = found[True, "overlay"]
        assert all(layers == first for layers in found.values())
        assert ("t", tarfile.DIRTYPE, "0o755", 0, 0, 0, "") not in first
        assert ("l", tarfile.DIRTYPE, "0o755", 0, 0, 0, "") in first, "--link makes a directory of the link"
    finally:
        shutil.rmtree(place)


def digests(box: Any, context: Path, name: str, *args: str, **more: Any) -> list[str]:
    box.build(context, "-t", name, *args, **more)
    found = json.loads(box("inspect", name).stdout)[0]
    return [layer["digest"] for layer in found["manifest"]["layers"]]


@pytest.fixture(params=["overlay", "copy"])
def snapshots(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"BUILDFRONT_SNAPSHOTS": str(request.param)}


LINK = "FROM box\nRUN echo {n} > /tmp/n\nCOPY --link file /tmp/sub/x\nRUN cat /tmp/sub/x /tmp/n\n"


def test_a_linked_layer_is_used_again_on_another_parent(
    box: Any, snapshots: dict[str, str], tmp_path: Path
) -> None:
    context = box.context(LINK.format(n=1), file="text\n")
    before = digests(box, context, "one", env=snapshots)
    os.utime(context / "file", (1, 1))  # only a layer that is written again has this time
    (context / "Dockerfile").write_text(LINK.format(n=2))
    done = box.build(context, "-o", f"type=oci,dest={tmp_path / 'a.tar'}", env=snapshots)
    assert "text" in done.stderr
    after = digests(box, context, "two", env=snapshots)
    assert after[2] == before[2] and after[1] != before[1]
    (found,) = [item for item in members(tmp_path / "a.tar") if item.name == "tmp/sub/x"]
    assert found.mtime != 1
    assert box.ran(context) == []


def test_a_linked_layer_is_made_again_where_it_must_be(box: Any) -> None:
    context = box.context(LINK.format(n=1), file="text\n")
    first = digests(box, context, "one")
    (context / "file").write_text("other\n")
    second = digests(box, context, "two")
    assert second[2] != first[2]
    (context / "file").write_text("text\n")
    blob = box.store / "blobs/sha256" / first[2].removeprefix("sha256:")
    blob.write_bytes(b"damaged")
    (context / "Dockerfile").write_text(LINK.format(n=3))
    box.build(context, "-t", "three")
    archive = box.path / "three.tar"
    box.build(context, "-o", f"type=oci,dest={archive}")
    assert "tmp/sub/x" in [item.name for item in members(archive)]


def test_a_linked_layer_replaces_links_and_modes_and_removes_nothing(
    box: Any, snapshots: dict[str, str]
) -> None:
    text = (
        "FROM box\nRUN mkdir -m 750 /d && chown bob:bob /d && echo k > /d/keep && ln -s /d /l && ln -s /d/keep /f\n"
        "COPY --link file /d/x\nCOPY --link file /l/y\nCOPY --link file /f\n"
    )
    target = box.path / "files"
    box.build(box.context(text, file="text"), "-o", f"type=local,dest={target}", env=snapshots)
    assert (target / "d/keep").read_text() == "k\n" and (target / "d/x").read_text() == "text"
    status = (target / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 0)
    assert sorted(os.listdir(target / "l")) == ["y"] and not (target / "l").is_symlink()
    assert (target / "f").read_text() == "text" and not (target / "f").is_symlink()


def test_a_file_where_a_linked_layer_has_a_directory_is_replaced(box: Any, snapshots: dict[str, str]) -> None:
    text = "FROM box\nRUN echo x > /d && mkdir -p /e/f\nCOPY --link file /d/x\nCOPY --link file /e/f\nRUN cat /d/x\n"
    target = box.path / "files"
    done = box.build(
        box.context(text, file="text"), "-o", f"type=local,dest={target}", env=snapshots, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (target / "d/x").read_text() == "text"
    assert (target / "e/f").read_text() == "text"


def test_names_can_t_be_looked_up_with_link_and_on_scratch(box: Any) -> None:
    for text in ("FROM box\nCOPY --link --chown=bob file /x\n", "FROM scratch\nCOPY --chown=bob file /x\n"):
        done = box.build(box.context(text, file="text"), check=False)
        assert done.returncode and "Dockerfile:2" in done.stderr
        assert (
            "--chown=bob: the name 'bob' can't be looked up" in done.stderr and "use numbers" in done.stderr
        )
    done = box.build(box.context("FROM scratch\nUSER bob\nWORKDIR /home/bob\n"), check=False)
    assert done.returncode and "Dockerfile:3" in done.stderr and "'bob' can't be looked up" in done.stderr
    text = "FROM scratch\nCOPY passwd /etc/passwd\nCOPY --chown=bob file /x\n"
    out = box.files(box.context(text, file="text", passwd="bob:x:7:8::/:/\n"))
    assert ((out / "x").stat().st_uid, (out / "x").stat().st_gid) == (7, 8)


def test_an_unknown_name_is_told(box: Any) -> None:
    context = box.context("FROM box\nCOPY --chown=nobody-here:wheel file /x\n", file="text")
    done = box.build(context, "-o", f"type=local,dest={box.path / 'files'}")
    assert "warning: --chown=nobody-here:wheel: the user 'nobody-here' is not in the image's" in done.stderr
    status = (box.path / "files/x").stat()
    assert (status.st_uid, status.st_gid) == (0, 10)


def test_a_pattern_that_matches_nothing_makes_an_empty_layer(box: Any, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    for text in ("COPY none* /x/", "ADD *.none none? /x/"):
        box.build(box.context(f"FROM box\n{text}\n", file="text"), "-o", f"type=oci,dest={archive}")
        assert members(archive) == []
    done = box.build(box.context("FROM box\nCOPY none/* /x/\n", file="text"), check=False)
    assert "'none/*' is not in the build context" in done.stderr


def test_a_mode_that_is_none_is_told_before_anything_runs(box: Any) -> None:
    text = "FROM box\nRUN echo ran >&2\nCOPY --chmod=u+q file /x\n"
    done = box.build(box.context(text, file="text"), check=False)
    assert "Dockerfile:3" in done.stderr and "the clause 'u+q' is wrong" in done.stderr
    assert "DONE" not in done.stderr


def test_special_files_of_a_context(box: Any) -> None:
    context = box.context("FROM box\nCOPY . /x/\n")
    os.mkfifo(context / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(context / "s"))
    out = box.files(context)
    assert stat.S_ISFIFO((out / "x/fifo").lstat().st_mode)
    assert stat.S_ISREG((out / "x/s").lstat().st_mode) and (out / "x/s").stat().st_size == 0


def test_file_capabilities_come_from_stage_to_stage_with_another_owner(box: Any, tmp_path: Path) -> None:
    out = tmp_path / "caps.tar"
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("f")
        value = "\x01\0\0\x02\0\x04" + "\0" * 14
        info.pax_headers = {"SCHILY.xattr.security.capability": value}
        tar.addfile(info)
    context = box.context(
        "FROM scratch AS one\nADD caps.tar /\nFROM box\nCOPY --from=one --chown=5:6 /f /g\n"
    )
    out.rename(context / "caps.tar")
    archive = tmp_path / "a.tar"
    box.build(context, "-o", f"type=oci,dest={archive}")
    (found,) = [item for item in members(archive) if item.name == "g"]
    assert found.pax_headers["SCHILY.xattr.security.capability"] == value and (found.uid, found.gid) == (5, 6)
