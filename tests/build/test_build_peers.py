"""The same Dockerfiles built by buildah: same files, modes, owners, link targets and config fields.

What differs on purpose is in DIFFERENCES, with its reason, and in docs/differences.md.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

DIFFERENCES = {
    "config: Labels": "buildah adds io.buildah.version; we add nothing that the Dockerfile does not say",
    "config: HEALTHCHECK": "buildah drops it in OCI images; we keep it, as BuildKit does",
    "config: SHELL, ONBUILD": "buildah drops them in OCI images; we keep them, as BuildKit does",
    "files: mount points": "buildah leaves empty /dev, /proc, /run, /sys, /etc/hosts and so on;"
    " a step of ours leaves nothing (S54)",
    "times": "files that steps make have the time of the step",
}

CASES = {
    "copy": (
        "FROM box\nWORKDIR /w/deep\nCOPY a.txt .\nCOPY a.txt dir/x to/\nCOPY dir /d\nCOPY --chmod=600 a.txt /m\n"
        "COPY --chown=bob:wheel dir /own\nCOPY --chown=5:6 a.txt /five/six\n"
    ),
    "wildcards": "FROM box\nCOPY *.txt /all/\nCOPY dir/s?b /sub\nCOPY d*/x /one\n",
    "add": "FROM box\nADD files.tar.gz /opt\nADD --chown=7:8 a.txt /opt/a\nADD dir /opt/dir\n",
    "links": "FROM box\nRUN ln -s /data /l && ln -s missing /dangling\nCOPY dir/link /followed\nCOPY dir /l/in\n",
    "run": (
        "FROM box\nRUN mkdir -p /r && echo x > /r/f && chmod 4755 /r/f && ln /r/f /r/hard && chown bob /r\nUSER bob\n"
        "RUN echo y > /tmp/y && mkdir /tmp/d\nRUN rm /tmp/y\n"
    ),
    "copy-between-stages": (
        "FROM box AS one\nRUN mkdir /o && echo x > /o/x && mkdir -m 700 /o/d && chmod 750 /o && "
        "chown -R bob /o\nFROM box\nCOPY --from=one /o /o\nCOPY --from=one /o /new/\n"
    ),
    "owners-from-a-stage": (
        "FROM box AS one\nRUN mkdir -p /o/d && echo x > /o/d/x && ln -s x /o/d/l && chown -R 9:9 /o\n"
        "FROM box\nCOPY --from=one --chown=bob /o /n/\nCOPY --from=one --chown=5:6 /o/d/x /p/q\n"
    ),
    "config": (
        'FROM box\nENV A=1 B="$A two"\nLABEL l=v\nEXPOSE 80 53/udp\nVOLUME /v\nUSER bob:wheel\n'
        "WORKDIR /home\nWORKDIR bob\n"
        'STOPSIGNAL SIGINT\nENTRYPOINT ["/bin/echo", "e"]\nCMD ["c"]\n'
    ),
    "workdir-of-a-user": (
        "FROM box\nUSER bob\nWORKDIR /a/b\nUSER 7\nWORKDIR /c\nUSER 7:8\nWORKDIR d\nUSER root\nWORKDIR /e\n"
    ),
    "shell-forms": "FROM box\nENTRYPOINT exec top\nCMD echo hi\n",
}
FIELDS = ("Env", "ExposedPorts", "Volumes", "User", "WorkingDir", "StopSignal", "Entrypoint", "Cmd")
MADE_BY_BUILDAH = {"dev", "proc", "run", "sys", "etc/resolv.conf", "etc/hosts", "etc/hostname"}
FILES = {"a_txt": "a", "b_txt": "b", "dir__x": "x", "dir__sub__y": "y"}


@pytest.fixture
def peer(tmp_path: Path, busybox_tar: Path):
    """Builds with buildah in a store of its own; returns the root filesystem and the config."""
    options = ["--root", str(tmp_path / "b"), "--runroot", str(tmp_path / "r"), "--storage-driver", "vfs"]

    def buildah(*words: object) -> str:
        done = subprocess.run(
            ["buildah", *options, *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    name = buildah("from", "scratch")
    buildah("add", name, busybox_tar, "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", name)
    buildah("commit", "-q", name, "localhost/box")

    def build(context: Path) -> tuple[Path, dict[str, object]]:
        archive = tmp_path / "peer.tar"
        buildah("build", "--isolation", "chroot", "--pull-never", "-q", "-t", "peer", context)
        buildah("push", "-q", "peer", f"oci-archive:{archive}")
        return unpack(archive, tmp_path / "peer-files")

    return build


def unpack(archive: Path, target: Path) -> tuple[Path, dict[str, object]]:
    """An OCI archive's root filesystem, by our own reader of layers, and its config."""
    from buildfront.export.files import unpack
    from buildfront.image.descriptor import Descriptor, Layer

    with tarfile.open(archive) as tar:
        tar.extractall(target.with_suffix(".oci"), filter="data")
    blobs = target.with_suffix(".oci") / "blobs" / "sha256"
    index = json.loads((target.with_suffix(".oci") / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    layers = [
        Layer(Descriptor(item["mediaType"], item["digest"], item["size"]), diff_id)
        for item, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    ]
    target.mkdir()
    unpack(str(target), layers, lambda item: open(blobs / item.digest[7:], "rb"))
    return target, config["config"]


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Type, mode, owner, and content or link target of every path."""
    out: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        mode = stat.S_IMODE(status.st_mode)
        what: object = (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
        out[str(path.relative_to(root))] = (kind, mode, status.st_uid, status.st_gid, what)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_same_as_buildah(box, peer, name: str) -> None:
    context = box.context(
        CASES[name].replace("FROM box", "FROM localhost/box"),
        a_txt="a",
        b_txt="b",
        dir__x="x",
        dir__sub__y="y",
    )
    (context / "dir/link").symlink_to("x")
    (context / "dir/sub").chmod(0o750)
    with tarfile.open(context / "files.tar.gz", "w:gz") as tar:
        tar.add(context / "dir", "in")
    box("tag", "box", "localhost/box")
    archive = box.path / "ours.tar"
    box.build(context, "-t", "ours", "-o", f"type=oci,dest={archive}")
    ours, our_config = unpack(archive, box.path / "ours-files")
    theirs, their_config = peer(context)
    mine, other = listing(ours), listing(theirs)
    for path in MADE_BY_BUILDAH - mine.keys():
        other.pop(path, None)
    assert mine == other
    for field in FIELDS:
        assert (our_config.get(field) or None) == (their_config.get(field) or None), field


def test_every_difference_is_documented() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "differences.md").read_text()
    for name in DIFFERENCES:
        assert f"`{name}`" in text
