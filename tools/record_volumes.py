"""What other builders make of the cases of testdata/volumes: ``make oracle`` compares it with the records.

With ``--write`` the records are written anew; the changes are reviewed like code. Names of cases choose some of them,
``--peer`` one of the peers. BuildKit and docker's old builder come with Debian's docker.io, whose daemon is started as
``record_mounts.py`` does it; buildah works in a store of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mount_cases import changed, make_base
from record_mounts import client, daemon, dump, error
from volume_cases import MADE, NAMES, PEERS, Case


class Peer(Protocol):
    """A builder that has the image ``box``."""

    def build(self, tag: str, context: Path, out: Path) -> str:
        """Build and tag an image, and write its root filesystem to a tar; the last line of the error, empty when there
        is none."""


def run(*words: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command, whatever becomes of it."""
    return subprocess.run(
        list(map(str, words)), env=env, capture_output=True, text=True, check=False, timeout=300
    )


def need(*words: object, env: dict[str, str]) -> str:
    """A command that has to succeed; what it printed."""
    done = run(*words, env=env)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stderr[-2000:]}")
    return done.stdout.strip()


class BuildKit:
    """BuildKit, as docker has it."""

    def __init__(self, environ: dict[str, str], base: Path) -> None:
        self.env = {**environ, "DOCKER_BUILDKIT": "1"}
        self.words = [client(), "build", "--network", "none"]
        need(client(), "import", base, "box:latest", env=self.env)

    def build(self, tag: str, context: Path, out: Path) -> str:
        done = run(*self.words, "--no-cache", "-t", tag, context, env=self.env)
        if done.returncode != 0:
            return error(done.stderr)
        need(*self.words, "--output", f"type=tar,dest={out}", context, env=self.env)
        return ""


class Docker:
    """docker's old builder."""

    def __init__(self, environ: dict[str, str], base: Path) -> None:
        self.env = {**environ, "DOCKER_BUILDKIT": "0"}
        self.program = client()
        need(self.program, "import", base, "box:latest", env=self.env)

    def build(self, tag: str, context: Path, out: Path) -> str:
        words = ("build", "--network", "none", "--no-cache", "-t", tag, context)
        done = run(self.program, *words, env=self.env)
        if done.returncode != 0:
            return error(done.stderr)
        name = need(self.program, "create", "--network", "none", tag, "/bin/true", env=self.env)
        need(self.program, "export", "--output", out, name, env=self.env)
        need(self.program, "rm", "--volumes", name, env=self.env)
        return ""


class Buildah:
    """buildah with chroot isolation, which needs no runtime."""

    def __init__(self, place: Path, base: Path) -> None:
        self.env = dict(os.environ)
        self.words = ["buildah", "--root", place / "b", "--runroot", place / "r", "--storage-driver", "vfs"]
        name = need(*self.words, "from", "scratch", env=self.env)
        need(*self.words, "add", name, base, "/", env=self.env)
        need(*self.words, "commit", "--quiet", name, "localhost/box", env=self.env)

    def build(self, tag: str, context: Path, out: Path) -> str:
        flags = ("--isolation", "chroot", "--pull-never", "--no-cache", "-t", f"localhost/{tag}")
        done = run(*self.words, "build", *flags, context, env=self.env)
        if done.returncode != 0:
            return error(done.stderr)
        name = need(*self.words, "from", "--pull-never", f"localhost/{tag}", env=self.env)
        path = need(*self.words, "mount", name, env=self.env)
        need("tar", "--create", "--file", out, "--numeric-owner", "--directory", path, ".", env=self.env)
        need(*self.words, "rm", name, env=self.env)
        return ""


def is_here(peer: str) -> bool:
    """Whether this machine has a peer; one that it has not is told and left out."""
    program = "buildah" if peer == "buildah" else "dockerd"
    here = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") is not None
    if not here:
        sys.stdout.write(f"{peer} is left out: there is no {program} (sh tools/system-packages oracle)\n")
    return here


def record(peer: Peer, case: Case, place: Path, base: Path) -> dict[str, Any]:
    """What a peer makes of a case."""
    out = place / "out.tar"
    for tag, context in case.contexts(place):
        out.unlink(missing_ok=True)
        said = peer.build(tag, context, out)
        if said:
            return {"status": "failed", "error": said, "files": []}
    return {"status": "ok", "files": [row for row in changed(out, base) if row["path"] not in MADE]}


def main() -> int:
    """Record, or compare and say what differs."""
    parser = argparse.ArgumentParser(
        description="compare the records of testdata/volumes with other builders"
    )
    parser.add_argument("--write", action="store_true", help="write the records anew")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only this one")
    parser.add_argument("names", nargs="*", metavar="CASE", help="only these")
    options = parser.parse_args()
    wanted = options.peer or [peer for peer in PEERS if is_here(peer)]
    place = Path(tempfile.mkdtemp(prefix="record-volumes-"))
    place.chmod(0o755)
    differing = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        base = place / "box.tar"
        make_base(base)
        with ExitStack() as stack:
            peers: dict[str, Peer] = {}
            if {"buildkit", "docker"} & set(wanted):
                environ = stack.enter_context(daemon(place))
                peers = {"buildkit": BuildKit(environ, base), "docker": Docker(environ, base)}
            if "buildah" in wanted:
                peers["buildah"] = Buildah(place, base)
            for name in options.names or NAMES:
                case = Case(name)
                for peer in wanted:
                    text = dump(record(peers[peer], case, place / "builds", base))
                    file = case.record(peer)
                    if file.exists() and file.read_text() == text:
                        continue
                    differing.append(f"{name}/{peer}")
                    if options.write:
                        file.write_text(text)
                    else:
                        sys.stdout.write(f"{name}: {peer} makes this of it now:\n{text}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    done = "written anew" if options.write else "not as recorded"
    count = len(options.names or NAMES) * len(wanted)
    sys.stdout.write(f"{count} records, {len(differing)} {done}: {' '.join(differing)}\n")
    return 1 if differing and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
