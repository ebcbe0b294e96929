"""Builds for the tests of RUN --mount: each way to run steps, and a look for what must be nowhere."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import as_user
import zstandard
from program import BUILDFRONT

CGROUP_2 = ["unshare", "-m", "sh", "-ec"]
CGROUP_2 += ['umount -R -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"', "sh"]
"""Runs a command where crun works on every machine: it refuses a mix of cgroup version 1 and 2."""


@dataclass(frozen=True)
class Way:
    """How steps are run: an isolation, for OCI which runtime, and whether an ordinary user builds."""

    isolation: str
    runtime: str = ""
    user: bool = False

    def __str__(self) -> str:
        words = [self.isolation, *([self.runtime] if self.runtime else []), *(["user"] if self.user else [])]
        return "-".join(words)

    @property
    def flags(self) -> list[str]:
        """For a build."""
        return ["--isolation", self.isolation, *(["--runtime", self.runtime] if self.runtime else [])]


CHROOT = Way("chroot")
AS_ROOT = (CHROOT, Way("oci", "runc"), Way("rootless", "runc"))
AS_USER = (Way("rootless", "runc", user=True), Way("rootless", "crun", user=True), Way("chroot", user=True))
WAYS = (*AS_ROOT, *AS_USER)


class Place:
    """A store with the image ``box``, a TMPDIR, contexts, and a way to run the program there.

    ``path`` is all that the program may write to; ``outside`` is what it is given to read.
    """

    def __init__(
        self, path: Path, way: Way, tar: Path, snapshots: str = "", base: Path | None = None
    ) -> None:
        """``base`` is a store that has the image, to be copied; without one ``tar`` is imported."""
        self.way = way
        self.path = path / "place"
        self.outside = path / "outside"
        self.store = self.path / "store"
        self.temporary = self.path / "tmp"
        self.outside.mkdir()
        for directory in (self.path, self.temporary):
            directory.mkdir()
            if way.user:
                as_user.make_home(str(directory))
        self.environ = {**os.environ, "BUILDFRONT_SNAPSHOTS": snapshots}
        for name in ("BUILDFRONT_ROOT", "BUILDFRONT_ISOLATION", "SSH_AUTH_SOCK"):
            self.environ.pop(name, None)
        self.count = 0
        self.started: list[subprocess.Popen[str]] = []
        shutil.copy(tar, self.outside / "box.tar")
        (self.outside / "box.tar").chmod(0o644)
        if base is None:
            self.run("import", self.outside / "box.tar", "-t", "box")
        else:
            shutil.copytree(base, self.store)
            if way.user:
                for name in (self.store, *self.store.rglob("*")):
                    os.chown(name, as_user.UID, as_user.UID)

    def words(self, *args: object) -> list[str]:
        """The command line of the program."""
        command = ["env", "-C", str(self.outside), f"TMPDIR={self.temporary}"]
        command += [BUILDFRONT, "--root", str(self.store), *map(str, args)]
        if self.way.user:
            command = as_user.words(self.path, *command)
        return [*CGROUP_2, *command] if self.way.runtime == "crun" else command

    def start(self, *args: object, **environ: str) -> subprocess.Popen[str]:
        """Start the program; it ends with the test, if not before."""
        process = subprocess.Popen(
            self.words(*args),
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def wait(self, build: subprocess.Popen[str], condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition`` holds; a build that has ended can't bring it about any more, and says why."""
        for _ in range(1200):
            ended = build.poll() is not None
            if condition():
                return
            if ended:
                raise AssertionError(f"{what}: {build.communicate()[1]}")
            time.sleep(0.05)
        raise AssertionError(what)

    def wait_file(self, build: subprocess.Popen[str], identity: str, name: str) -> Path:
        """Wait until a step has put a file of that name into an instance of a cache; its path."""
        found: list[Path] = []

        def is_there() -> list[Path]:
            found[:] = [path / name for path in self.caches(identity) if (path / name).exists()]
            return found

        self.wait(build, is_there, f"no {name} in the cache {identity}")
        return found[0]

    def close(self) -> None:
        """Kill what still runs, as where a test has failed, and take everything away."""
        for process in self.started:
            process.kill()
            process.communicate()
        shutil.rmtree(self.path.parent)

    def run(self, *args: object, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        process = self.start(*args, **environ)
        out, err = process.communicate(timeout=100)
        assert not check or process.returncode == 0, err[-3000:]
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def building(self, *args: object, progress: str = "plain") -> list[str]:
        """The words of a build."""
        return ["build", "--progress", progress, *self.way.flags, *map(str, args)]

    def build(self, *args: object, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        """A build."""
        return self.run(*self.building(*args), check=check, **environ)

    def printed(self, *args: object, check: bool = True, **environ: str) -> dict[str, list[str]]:
        """What each step of a build printed, by its title; steps that were cached are not among them."""
        err = self.run(*self.building(*args, progress="rawjson"), check=check, **environ).stderr
        events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        texts: dict[str, str] = {e["title"]: "" for e in events if e["event"] == "start"}
        for event in events:
            if event["event"] == "output":
                texts[event["title"]] += event["text"]
        return {title: text.splitlines() for title, text in texts.items()}

    def context(self, dockerfile: str, **files: str) -> Path:
        """A directory with a Dockerfile and files."""
        self.count += 1
        path = self.outside / f"context-{self.count}"
        path.mkdir()
        (path / "Dockerfile").write_text(dockerfile)
        for name, text in files.items():
            (path / name).write_text(text)
        return path

    def caches(self, identity: str) -> list[Path]:
        """The directories of a cache mount, one for each instance."""
        found = []
        for described in (self.store / "caches").glob("*/cache.json"):
            if json.loads(described.read_text())["id"] == identity:
                found += [path for path in sorted(described.parent.glob("*/data")) if path.is_dir()]
        return found

    def cache(self, identity: str) -> Path:
        """That of a cache with one instance."""
        (path,) = self.caches(identity)
        return path

    def left(self) -> list[str]:
        """What builds that were not killed must have taken away."""
        return sorted(os.listdir(self.store / "tmp") + os.listdir(self.temporary))

    def layers(self, *args: object, **environ: str) -> list[list[str]]:
        """The names in each layer of what is built."""
        archive = self.path / "layers.tar"
        self.build("-o", f"type=oci,dest={archive}", *args, **environ)
        with tarfile.open(archive) as tar:

            def read(digest: str) -> bytes:
                stream = tar.extractfile("blobs/" + digest.replace(":", "/"))
                assert stream is not None
                return stream.read()

            index: Any = tar.extractfile("index.json")
            manifest = json.loads(read(json.load(index)["manifests"][0]["digest"]))
            blobs = [read(layer["digest"]) for layer in manifest["layers"]]
        archive.unlink()
        return [tarfile.open(fileobj=io.BytesIO(blob)).getnames() for blob in blobs]


def forms(data: bytes) -> Iterator[bytes]:
    """The bytes themselves, and what is packed in them."""
    yield data
    if data.startswith(b"\x1f\x8b"):
        yield from forms(gzip.decompress(data))
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        yield from forms(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is not None:
                    yield from forms(stream.read())


def traces(words: Iterable[bytes], *tops: Path) -> list[str]:
    """Where in these trees one of the words is: in a file, packed or not, in a link, a name or an attribute."""
    wanted = tuple(words)
    found = []
    for top in tops:
        for directory, directories, files in os.walk(top):
            for name in [*directories, *files]:
                path = os.path.join(directory, name)
                try:
                    seen = [name.encode(errors="surrogateescape"), *_content(path)]
                except (FileNotFoundError, ProcessLookupError):
                    continue  # gone meanwhile
                if any(word in data for data in seen for word in wanted):
                    found.append(path)
    return found


def _content(path: str) -> Iterator[bytes]:
    for name in os.listxattr(path, follow_symlinks=False):
        yield os.getxattr(path, name, follow_symlinks=False)
    if os.path.islink(path):
        yield os.fsencode(os.readlink(path))
    elif os.path.isfile(path):
        with open(path, "rb") as stream:
            yield from forms(stream.read())


def told(words: Iterable[bytes]) -> list[str]:
    """The processes with one of the words on their command line, which everybody can read."""
    wanted = tuple(words)
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if any(word in line for word in wanted):
            found.append(f"{name}: {line!r}")
    return found
