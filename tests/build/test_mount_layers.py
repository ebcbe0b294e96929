"""Row S54 for the mounts of RUN: whatever had to be made to mount something, a step that changes nothing has an empty
layer, and the image's directories keep their times."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import mount_builds
import pytest
from mount_builds import AS_USER, CHROOT, WAYS, Place
from rows import row

KINDS = {
    "bind": "type=bind,source=given",
    "bind-rw": "type=bind,source=given,rw",
    "bind-stage": "type=bind,from=other,source=/made",
    "cache": "type=cache",
    "cache-filled": "type=cache,from=other,source=/made",
    "tmpfs": "type=tmpfs",
    "bind-file": "type=bind,source=given/file",
    "secret": "type=secret,id=secret",
    "ssh": "type=ssh",
}
FILES = ("bind-file", "secret", "ssh")
PLACES = ("full", "missing/deep/er", "links/to-it", "links/through", "links/to-nothing", "links/to-nowhere")
"""Where each is mounted, below a directory of its own; ``links/to-it`` has content behind it, ``through`` is the first
of two links, and what the others lead to is not there: its directory is, or not even that."""


def make_tree(top: Path, *, file: bool) -> None:
    """What is there before."""
    (top / "links").mkdir(parents=True)
    for name in ("full", "linked"):
        if file:
            (top / name).write_text("the image's own\n")
        else:
            (top / name).mkdir()
            (top / name / "own").write_text("the image's own\n")
            (top / name / "empty").mkdir()
    (top / "near").mkdir()
    (top / "links/to-it").symlink_to("../linked")
    (top / "links/through").symlink_to("to-it")
    (top / "links/to-nothing").symlink_to("../near/nothing")
    (top / "links/to-nowhere").symlink_to("../far/and/away")


def everything(top: Path) -> dict[str, tuple[Any, ...]]:
    """All that an image says of its files, with the times to the nanosecond; it says nothing of its top."""
    found = {}
    for directory, directories, files in os.walk(top):
        for name in [*directories, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            target = os.readlink(path) if os.path.islink(path) else ""
            found[os.path.relpath(path, top)] = (
                *(oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns),
                *(target, status.st_nlink if not os.path.isdir(path) else 0),
            )
    return found


def prepared(place: Place) -> tuple[Path, list[str]]:
    """A context with a stage ``before`` that all mounts find as it is, and what a build of it is given."""
    context = place.context("")
    (context / "given").mkdir()
    (context / "given/file").write_text("given\n")
    for kind in KINDS:
        make_tree(context / "tree" / kind, file=kind in FILES)
    for kind, file in (
        ("volume", False),
        ("volume-ro", False),
        ("volume-file", True),
        ("image-volume", False),
    ):
        make_tree(context / "tree" / kind, file=file)
    volume = place.path / "volume"
    volume.mkdir()
    (volume / "file").write_text("of the host\n")
    if place.way.user:
        volume.chmod(0o777)
    key = place.outside / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(key)], check=True, timeout=60)
    key.chmod(0o644)
    (place.outside / "secret").write_text("not for the image\n")
    flags = ["--secret", "id=secret,src=secret", "--ssh", "default=key"]
    for where in PLACES:
        flags += ["-v", f"{volume}:/volume/{where}", "-v", f"{volume}:/volume-ro/{where}:ro"]
        flags += ["-v", f"{volume}/file:/volume-file/{where}:ro"]
    if not place.way.user:
        flags += ["--device", "/dev/null:/dev/of/its/own", "--device", "/dev/zero:/dev/zero-again:r"]
        for where in PLACES:
            flags += ["--device", f"/dev/null:/device/{where}"]
    return context, flags


def mount(kind: str, where: str) -> str:
    """The flag that mounts one kind at one place."""
    options = KINDS[kind] + (f",id={kind}" if KINDS[kind].startswith("type=cache") else "")
    return f"--mount={options},target=/{kind}/{where}"


def step(places: tuple[str, ...], command: str) -> str:
    """A RUN with each kind of mount at these places."""
    return f"RUN {' '.join(mount(kind, where) for kind in KINDS for where in places)} {command}\n"


BASE = """\
FROM box AS other
RUN mkdir /made && echo made > /made/file
FROM box AS before
COPY tree/ /
FROM before
"""
WRITES = (
    " && ".join(
        f"echo x > /{kind}/full/new" for kind in ("bind-rw", "cache", "cache-filled", "tmpfs", "volume")
    )
    + " && rm /bind-rw/full/file"
)


@row("S54")
@pytest.mark.parametrize(
    ("way", "snapshots"),
    [*((way, "overlay") for way in WAYS), (CHROOT, "copy"), (AS_USER[-1], "copy")],
    ids=str,
)
def test_mounts_leave_no_trace_in_the_image(place_of, way, snapshots) -> None:
    """In one build: each kind at each kind of place; all kinds at all places; writing to what is mounted; and a step
    that makes one file of its own beside all of it."""
    place = place_of(way, snapshots)
    context, flags = prepared(place)
    text = BASE
    for where in PLACES:
        looks = [f"test -e /{kind}/{where}" for kind in (*KINDS, "volume", "volume-ro", "volume-file")]
        looks += [f"! test -e /{kind}/{where}/own" for kind in KINDS]
        text += step((where,), f"{' && '.join(looks)} && cat /bind/{where}/file /volume-file/{where}")
    text += step(PLACES, "true") + step(("full",), WRITES)
    (context / "Dockerfile").write_text(text)
    before, after = place.path / "before", place.path / "after"
    done = place.build(*flags, "-o", f"type=local,dest={after}", context)
    assert done.stderr.count(" given\n") == done.stderr.count(" of the host\n") == len(PLACES), done.stderr
    place.build(*flags, "--target", "before", "-o", f"type=local,dest={before}", context)
    assert everything(after) == everything(before)
    assert (place.path / "volume/new").exists()
    # Whole trees show it without the layers between: the last is as the first was, its top with the rest.
    trees = [path for path in (place.store / "snapshots").glob("*/fs") if (path / "bind").exists()]
    assert len(trees) == (len(PLACES) + 3 if snapshots == "copy" else 0)
    assert all((everything(tree), tree.stat().st_mtime_ns) == (everything(trees[0]), trees[0].stat().st_mtime_ns)
               for tree in trees)  # fmt: skip
    (context / "Dockerfile").write_text(
        text + step(PLACES, "mkdir /missing && echo mine > /missing/file && echo mine > /bind/near/file")
    )
    layers = place.layers(*flags, context)
    assert layers[2:-1] == [[]] * (len(PLACES) + 2)
    assert layers[-1] == ["bind", "bind/near", "bind/near/file", "missing", "missing/file"]
    assert place.left() == []


STRICT = """\
FROM box
USER bob
RUN echo x > /dev/null && ls -ld / /dev /run | cut -c1-10
RUN --mount=type=secret,id=secret,mode=0444 --mount=type=cache,target=/opt/app/cache,mode=0777 \
  --mount=type=tmpfs,target=/q/w cat /run/secrets/secret && touch /opt/app/cache/x && \
  ls -ld /run/secrets /opt /opt/app /q | cut -c1-10
USER root
RUN --mount=type=cache,target=/opt/app/cache touch /opt/app/x
FROM scratch
COPY --from=0 /opt /deep/er/opt
"""


@row("S54")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_builder_s_umask_is_no_matter(place_of, way, monkeypatch) -> None:
    """What is made to mount on has the modes that it always has, and a USER gets to what is mounted."""
    place = place_of(way, "overlay")
    context = place.context(STRICT)
    (place.outside / "secret").write_text("told\n")
    program = place.outside / "program"
    program.write_text(f'#!/bin/sh\numask $MASK\nexec {mount_builds.BUILDFRONT} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(mount_builds, "BUILDFRONT", str(program))
    outputs = []
    for mask in ("022", "077"):
        out = place.path / f"out-{mask}.tar"
        flags = ["--no-cache", "--secret", f"id=secret,src={place.outside}/secret"]
        done = place.build(*flags, "-o", f"type=tar,dest={out}", context, MASK=mask)
        assert done.stderr.count(" drwxr-xr-x\n") == 7 and " ***\n" in done.stderr, done.stderr
        with tarfile.open(out) as tar:
            outputs.append([(item.name, oct(item.mode), item.uid) for item in tar])
    assert outputs[0] == outputs[1]
    assert ("deep/er/opt/app", "0o755", 0) in outputs[0]
    assert place.left() == []


@row("S54")
@pytest.mark.parametrize("way", (CHROOT, *AS_USER), ids=str)
def test_what_the_step_made_in_the_place_of_a_mount_point_stays(place_of, way) -> None:
    place = place_of(way, "overlay")
    moved = "mv /m /moved && mkdir -p /other/x && ln -s /other /m"
    context = place.context(f"FROM box\nRUN --mount=type=tmpfs,target=/m/x {moved}\n")
    out = place.path / "out.tar"
    place.build("-o", f"type=tar,dest={out}", context)
    with tarfile.open(out) as tar:
        names = {item.name: item for item in tar}
    assert names["other/x"].isdir() and names["m"].linkname == "/other"
