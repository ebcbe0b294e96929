"""Row X81: builds inside an ordinary container, which has CAP_SYS_CHROOT but neither mounts nor user namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import as_user
import pytest
from program import BUILDFRONT
from rows import row

CONTAINER = [sys.executable, os.path.join(as_user.PROJECT, "tests", "as_container.py")]


def build(bf, *args, check=True):
    command = [
        *CONTAINER,
        BUILDFRONT,
        "--root",
        str(bf.store),
        "build",
        "--progress",
        "plain",
        *map(str, args),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def inside(bf, busybox_tar):
    """A store that was made inside, with the image ``box``."""
    command = [*CONTAINER, BUILDFRONT, "--root", str(bf.store), "import", str(busybox_tar), "-t", "box"]
    subprocess.run(command, check=True, capture_output=True)
    return bf


def test_the_container_is_an_ordinary_one() -> None:
    for words in (
        ["unshare", "-m", "true"],
        ["unshare", "-U", "true"],
        ["mount", "-t", "tmpfs", "tmpfs", "/mnt"],
    ):
        done = subprocess.run([*CONTAINER, *words], capture_output=True, text=True, check=False)
        assert done.returncode != 0, words


@row("X81")
@pytest.mark.slow
def test_a_real_dockerfile_with_apt_get(bf, debian_tar) -> None:
    command = [*CONTAINER, BUILDFRONT, "--root", str(bf.store), "import", str(debian_tar), "-t", "debian"]
    subprocess.run(command, check=True, capture_output=True)
    context = bf.context(
        "FROM debian\nRUN cp /etc/resolv.conf /seen\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends hello && hello\n"
        "COPY Dockerfile /\n"
    )
    out = bf.path / "out"
    done = build(bf, "-t", "app", "-o", f"type=local,dest={out}", context)
    assert "Hello, world!" in done.stderr
    assert done.stderr.count("nothing can be mounted here") == 1  # said once, not for every step
    assert (out / "usr/bin/hello").exists()
    assert (out / "seen").read_text() == Path("/etc/resolv.conf").read_text() or (
        out / "seen"
    ).stat().st_size > 0
    assert not (out / "run/.containerenv").exists()
    again = build(bf, "-t", "app", context)
    assert "DONE" not in again.stderr


@row("X81")
def test_the_images_own_files_come_back(inside) -> None:
    context = inside.context(
        "FROM box\nRUN --network=host echo image > /keep; ln -s /keep /etc/hosts.new\n"
        "COPY resolv /etc/resolv.conf\n"
        "RUN rm -f /etc/hosts; cat /etc/resolv.conf > /seen; echo changed > /etc/resolv.conf; ls /dev > /devices\n"
        "RUN rm -f /etc/resolv.conf /dev/null\n"
        "RUN echo nothing to see\n",
        resolv="nameserver 198.51.100.1\n",
    )
    out = inside.path / "out"
    build(inside, "-o", f"type=local,dest={out}", "--dns", "198.51.100.2", "--allow", "network.host", context)
    assert (out / "etc/resolv.conf").read_text() == "nameserver 198.51.100.1\n"
    assert "198.51.100.2" in (out / "seen").read_text()
    assert {"null", "zero", "urandom"} <= set((out / "devices").read_text().split())
    assert not (out / "dev").exists()
    assert not (out / "run").exists()
    assert not (out / "etc/hosts").exists()


@row("X81")
def test_the_layers_are_those_of_other_isolations(inside, busybox_tar) -> None:
    """The Dockerfile needs nothing that chroot alone lacks."""
    from test_build_rootless import layers

    context = inside.context(
        "FROM box\nRUN mkdir /made && touch /made/file && chown 1000:10 /made/file && rm -rf /data\n"
        "USER bob\nWORKDIR /home/bob/deep\nRUN id -u > /tmp/uid && ln -s uid /tmp/link\n"
    )
    here = inside.path / "here.tar"
    build(inside, "-o", f"type=oci,dest={here}", context)
    inside.store = inside.path / "outside"
    inside("import", busybox_tar, "-t", "box")
    there = inside.path / "there.tar"
    inside.build(context, "--isolation", "oci", "-o", f"type=oci,dest={there}")
    assert layers(here) == layers(there)


@row("S80", "X81")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--network", "none"], "network 'none'"),
        (["-v", "/usr:/host"], "volumes"),
        (["--mount", "type=tmpfs,target=/x"], "mounts"),
        (["--hostname", "box"], "a hostname"),
        (["--shm-size", "1m"], "the size of /dev/shm"),
        (["--pid", "private"], "pid namespace"),
        (["--userns-uid-map", "0:1000:1", "--userns-gid-map", "0:1000:1"], "ID maps"),
        (["--security-opt", "mask=/proc/x"], "masked paths"),
    ],
)
def test_what_was_asked_for_and_cannot_be_had_is_an_error(inside, flags, words) -> None:
    done = build(inside, *flags, inside.context("FROM box\nRUN true\n"), check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "this machine lets nothing be mounted" in done.stderr


@row("X81")
def test_nothing_of_a_step_that_fails_remains(inside) -> None:
    context = inside.context("FROM box\nRUN (setsid sleep 77777 >/dev/null 2>&1 &) ; exit 3\n")
    assert build(inside, context, check=False).returncode == 3
    assert list((inside.store / "tmp").iterdir()) == []


@row("X81")
def test_a_store_of_overlays_is_told(box) -> None:
    """One that was made where mounts are allowed; nothing of it is touched."""
    box.build(box.context("FROM box\nRUN touch /first\n"))
    before = box.snapshot()
    done = build(box, box.context("FROM box\nRUN touch /other\n"), check=False)
    assert done.returncode == 1
    assert "keeps its snapshots as overlays, and nothing can be mounted here" in done.stderr
    assert "hint: use another store with --root" in done.stderr
    assert box.snapshot() == before
