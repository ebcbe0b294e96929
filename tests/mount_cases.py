"""The cases of testdata/mounts: Dockerfiles with RUN --mount, and what BuildKit makes of them.

A case is a directory with a Dockerfile that writes down what its steps see, ``context/`` with what is sent along,
``case.toml`` for what a command line says, and ``expected.json``, the record of BuildKit's outcome, which
``tools/record_mounts.py`` writes and ``tests/build/test_mount_peers.py`` compares with ours.

In case.toml::

    target, build-args = "stage", {NAME = "value"}
    secrets = {id = "text"}          # secret-env: from a variable of the environment
    ssh = ["default"]                # each has a socket that listens
    modes, owners = {"path" = "640"}, {"path" = "1000:1000"}   # of context files; 644, 755 and root else
    says = "…"                       # a build that fails: what our error has to match
    [[before]]                       # builds that come first; secrets, build-args, files and fails are of this build
    [[differences]]                  # where we differ on purpose: why, which is a key of REASONS, and what:
    gone = ["path"]                  #   what is not there with us
    path = "out/x"                   #   a file that is otherwise: its mode and so on as in the record, or
    instead = {"its line" = "ours"}  #   its lines that are; "" for none
    status = "ok"                    #   the whole build
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import socket
import stat
import tarfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent.parent / "testdata" / "mounts"
NAMES = sorted(path.parent.name for path in DIRECTORY.glob("*/Dockerfile"))
REASONS = {
    "executable": "a secret that has an execute bit can be executed: the mode was asked for (row X69)",
    "mount-points": "a layer holds what the command did: a mount point that had to be made for a step, and what had"
    " to be made above it, is gone from the layer, and the next step finds it so; as in BuildKit since 0.11",
    "ssh-owner": "what uid= and gid= leave open of an agent's socket is the step's USER, who could not use it else",
    "ssh-absent": "SSH_AUTH_SOCK is set where there is a socket; BuildKit names one that is not there",
    "cache-mode": "a cache has the mode that mode= says; dockerd takes the special bits and its umask's from it",
    "empty-secret": "an empty secret is an empty file, as in newer BuildKit; this one takes it for none at all",
    "read-only": "what is not rw can't be written; docker 20.10 gives a copy of an image that can, and drops it",
    "stage-number": "the number of a stage is a name of it, as it is for COPY --from",
    "spelling": "of two mounts at one target the last one is seen; for BuildKit /m and /m/ are two, in that order",
    "newer": "variables, and the size of a tmpfs: newer BuildKit has them (Dockerfile reference, RUN --mount)",
}
"""Why an outcome of ours may not be the recorded one."""

LOOK = r"""#!/bin/sh
# Everything below each path: mode, owner, type, and a link's target or a file's text, with | for the end of a line.
one() {
    printf '%s %s ' "$1" "$(stat -c '%a %u:%g' "$1")"
    if [ -L "$1" ]; then
        echo "link: $(readlink "$1")"
    elif [ -d "$1" ]; then
        echo directory
    elif [ -S "$1" ]; then
        echo socket
    elif [ ! -f "$1" ]; then
        echo special
    elif [ -r "$1" ]; then
        echo "file: $(tr '\n' '|' <"$1")"
    else
        echo 'file, unreadable'
    fi
}
for top; do
    if [ -e "$top" ] || [ -L "$top" ]; then
        find "$top" 2>/dev/null | sort | while read -r path; do one "$path"; done
    else
        echo "$top absent"
    fi
done
"""
TRY = r"""#!/bin/sh
# Say whether a command works, and nothing of its own words.
if sh -c "$1" >/dev/null 2>&1; then echo "$1: works"; else echo "$1: fails"; fi
"""
APPLETS = (
    "sh cat chmod chown cp date dd echo env false find grep head id ln ls mkdir mv printf pwd readlink rm rmdir"
    " sed seq sleep sort stat test touch tr true wc xargs"
)
PASSWD = "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n"
GROUP = "root:x:0:\nbob:x:1000:\nwheel:x:10:bob\n"


@dataclass
class Case:
    """One case, and the builds that it is made of; the last one counts."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Case:
        file = DIRECTORY / name / "case.toml"
        return cls(name, tomllib.loads(file.read_text()) if file.exists() else {})

    @property
    def path(self) -> Path:
        """Where the case is."""
        return DIRECTORY / self.name

    @property
    def record(self) -> Path:
        """What BuildKit made of it."""
        return self.path / "expected.json"

    @property
    def builds(self) -> list[dict[str, Any]]:
        """The settings of each build, in their order."""
        before = self.settings.get("before", ())
        return [*({**self.settings, "fails": False, **more} for more in before), self.settings]

    def expected(self) -> dict[str, Any]:
        """The record with our differences put in; a difference that changes nothing is one too many."""
        record: dict[str, Any] = json.loads(self.record.read_text())
        files = {item["path"]: item for item in record["files"]}
        status = record["status"]
        for difference in self.settings.get("differences", ()):
            more = dict(difference)
            assert more.pop("why") in REASONS, difference
            if "status" in more:
                assert status != more["status"], f"{difference} is no difference"
                status = more.pop("status")
            for path in more.pop("gone", ()):
                assert files.pop(path, None), f"BuildKit has no {path} here"
            if more:
                item = files.get(more["path"], {})
                if "instead" in more:
                    more["lines"] = _replaced(item["lines"], more.pop("instead"))
                assert {**item, **more} != item, f"{difference} is no difference"
                files[more["path"]] = {**item, **more}
        return {"status": status, "files": [files[path] for path in sorted(files)]}


def _replaced(lines: list[str], instead: dict[str, str]) -> list[str]:
    assert set(instead) <= set(lines), f"no line of BuildKit's: {set(instead) - set(lines)}"
    return [new for line in lines if (new := instead.get(line, line)) or new == line]


def _add(tar: tarfile.TarFile, name: str, content: str | bytes | None, mode: int, owner: int = 0) -> None:
    """A file, or a directory where there is no content."""
    item = tarfile.TarInfo(name)
    item.mode, item.uid, item.gid, item.mtime = mode, owner, owner, 1_700_000_000
    if content is None:
        item.type = tarfile.DIRTYPE
        tar.addfile(item)
        return
    data = content.encode() if isinstance(content, str) else content
    item.size = len(data)
    tar.addfile(item, io.BytesIO(data))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    item = tarfile.TarInfo(name)
    item.type, item.linkname, item.mode, item.mtime = tarfile.SYMTYPE, target, 0o777, 1_700_000_000
    tar.addfile(item)


def make_base(path: Path) -> None:
    """The image ``box``: busybox, two users, and directories, files and links that mounts can hide."""
    busybox = Path(shutil.which("busybox") or "busybox").read_bytes()
    with tarfile.open(path, "w") as tar:
        for name in (
            "bin",
            "data",
            "dev",
            "etc",
            "home",
            "lib",
            "links",
            "proc",
            "root",
            "sys",
            "usr",
            "usr/bin",
        ):
            _add(tar, name, None, 0o755)
        _add(tar, "tmp", None, 0o1777)
        _add(tar, "out", None, 0o1777)
        _add(tar, "home/bob", None, 0o750, 1000)
        _add(tar, "bin/busybox", busybox, 0o755)
        for name in APPLETS.split():
            _link(tar, f"bin/{name}", "busybox")
        _add(tar, "bin/look", LOOK, 0o755)
        _add(tar, "bin/try", TRY, 0o755)
        _add(tar, "etc/passwd", PASSWD, 0o644)
        _add(tar, "etc/group", GROUP, 0o644)
        for name in (
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
        ):  # what steps mount is in the image already
            _add(tar, name, "", 0o644)
        _add(tar, "data/kept", "kept\n", 0o640, 1000)
        _add(tar, "data/private", None, 0o700, 1000)
        _add(tar, "data/open", None, 0o1777)
        for name, target in {
            "absolute": "/data",
            "relative": "../data",
            "up": "../../../../data",
            "dangling": "/not/there",
            "dangling-near": "there",
            "file": "/data/kept",
            "loop": "loop",
            "twice": "absolute",
        }.items():
            _link(tar, f"links/{name}", target)


def make_other(path: Path) -> None:
    """The image ``other``, for mounts from an image."""
    with tarfile.open(path, "w") as tar:
        _add(tar, "other", None, 0o750, 1000)
        _add(tar, "other/file", "from the other image\n", 0o604, 1000)
        _link(tar, "other/link", "file")
        _link(tar, "other/root", "/other")


def lay(case: Case, build: dict[str, Any], place: Path) -> tuple[Path, list[str], dict[str, str]]:
    """Make the context of a build in ``place``; the flags that docker build and we share, and the environment."""
    context = place / "context"
    shutil.rmtree(context, ignore_errors=True)
    if (case.path / "context").exists():
        shutil.copytree(case.path / "context", context, symlinks=True)
    context.mkdir(exist_ok=True)
    shutil.copyfile(case.path / "Dockerfile", context / "Dockerfile")
    for name, text in build.get("files", {}).items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(text)
    for item in [context, *context.rglob("*")]:
        if not item.is_symlink():
            item.chmod(0o755 if item.is_dir() or item.stat().st_mode & 0o100 else 0o644)
    for name, owner in build.get("owners", {}).items():
        os.chown(context / name, *map(int, owner.split(":")), follow_symlinks=False)
    for name, mode in build.get("modes", {}).items():
        (context / name).chmod(int(mode, 8))
    flags, environ = [], {}
    for name, text in build.get("secrets", {}).items():
        (place / f"secret-{name}").write_text(text)
        flags += ["--secret", f"id={name},src={place}/secret-{name}"]
    for name, text in build.get("secret-env", {}).items():
        environ[f"SECRET_{name}"] = text
        flags += ["--secret", f"id={name},env=SECRET_{name}"]
    for name in build.get("ssh", ()):
        flags += ["--ssh", f"{name}={place}/agent-{name}"]
    for name, value in build.get("build-args", {}).items():
        flags += ["--build-arg", f"{name}={value}"]
    if "target" in build:
        flags += ["--target", build["target"]]
    return context, flags, environ


@contextmanager
def agents(case: Case, place: Path) -> Iterator[list[Path]]:
    """The sockets that the case names, listening."""
    sockets = []
    try:
        for name in case.settings.get("ssh", ()):
            path = place / f"agent-{name}"
            sockets.append(socket.socket(socket.AF_UNIX))
            sockets[-1].bind(str(path))
            sockets[-1].listen()
        yield [place / f"agent-{name}" for name in case.settings.get("ssh", ())]
    finally:
        for each in sockets:
            each.close()


def listing(tar: Path) -> dict[str, dict[str, Any]]:
    """Everything in a root filesystem but its times; a hard link is the file that it leads to."""
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(tar) as archive:
        for item in archive:
            path = item.name.removeprefix("./").strip("/")
            if path in ("", "."):
                continue
            if item.islnk():
                found[path] = {**found[item.linkname.removeprefix("./").strip("/")], "path": path}
                continue
            kind = {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link"}.get(item.type, "file")
            if not (item.isreg() or item.isdir() or item.issym()):
                kind = f"special {item.type!r}"
            row: dict[str, Any] = {"path": path, "type": kind, "mode": f"{stat.S_IMODE(item.mode):o}"}
            row |= {"uid": item.uid, "gid": item.gid}
            if kind == "link":
                row |= {"mode": "777", "target": item.linkname}
            elif kind == "file":
                row |= _content(archive.extractfile(item).read())  # type: ignore[union-attr]
            found[path] = row
    return found


def _content(data: bytes) -> dict[str, Any]:
    """The text of a small file, to be read in the record; a digest of any other."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if len(data) <= 8192 and (text or not data):
        return {"lines": text.split("\n")}
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


_base = functools.cache(listing)


def changed(tar: Path, base: Path) -> list[dict[str, Any]]:
    """What a root filesystem has that the base has not, or has otherwise; what it lacks is of type "removed"."""
    old, new = _base(base), listing(tar)
    gone = [{"path": path, "type": "removed"} for path in old.keys() - new.keys()]
    rows = [row for path, row in new.items() if row != old.get(path)]
    return sorted([*rows, *gone], key=lambda row: row["path"])
