"""Archives that mean harm, in every place where an archive comes in: success or an error, in little time and memory,
nothing left in the store's temporary directory, nothing changed outside."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import hostile_archives as hostile
import pytest

from run_step import remove_tree

MEMORY = 150 << 20
RUNNER = Path(__file__).parent.parent / "run_limited.py"
OCI = "application/vnd.oci.image."
MEDIA = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}


class Place:
    """A store, a directory for archives, and one outside that must stay as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outside = path / "outside"
        self.outside.mkdir()
        (self.outside / "file").write_text("untouched")
        os.utime(self.outside / "file", (5, 5))
        (path / "archives").mkdir()
        (path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        self.before = self._state()
        self.jobs: list[dict[str, object]] = []
        self.names: list[str] = []

    def _state(self) -> list[object]:
        found: list[object] = []
        for path in (self.outside, self.outside / "file"):
            status = os.lstat(path)
            found.append((status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ino, status.st_nlink))
        return [
            *found,
            os.listdir(self.outside),
            (self.outside / "file").read_text(),
            os.path.exists("/tmp/escaped"),
        ]

    def write(self, number: int, parts: Iterable[bytes]) -> Path:
        path = self.path / "archives" / f"{number}.tar"
        with open(path, "wb") as out:
            for part in parts:
                out.write(part)
        return path

    def job(self, name: str, *args: object, stdin: Path | None = None, seconds: int = 60) -> None:
        self.names.append(name)
        args = ("--root", self.path / "store", *args)
        self.jobs.append(
            {"args": [str(arg) for arg in args], "stdin": stdin and str(stdin), "seconds": seconds}
        )

    def run(self, memory: int = MEMORY, **more: object) -> dict[str, dict[str, object]]:
        """All jobs; a list of what went wrong is empty."""
        done = subprocess.run(
            [sys.executable, RUNNER],
            input=json.dumps(self.jobs),
            capture_output=True,
            text=True,
            check=False,
            **more,
        )
        assert done.returncode == 0, done.stderr
        wrong = []
        results = dict(zip(self.names, json.loads(done.stdout), strict=True))
        for name, result in results.items():
            problems = []
            if result["status"] not in (0, 1, 2):
                problems.append(f"status {result['status']} after {result['seconds']:.1f} s")
            if result["status"] and "error: " not in result["stderr"]:
                problems.append("no error told")
            if "Traceback" in result["stderr"] or "Error:" in result["stderr"]:
                problems.append("a traceback")
            if result["rss"] > memory:
                problems.append(f"{result['rss'] >> 20} MB")
            if problems:
                wrong.append((name, problems, result["stderr"][-600:]))
        assert not wrong, "\n".join(map(str, wrong))
        assert os.listdir(self.path / "store" / "tmp") == []
        assert self._state() == self.before
        return results

    # places where an archive comes in

    def layer(self, number: int, path: Path, compression: str, *, docker: bool) -> Path:
        """An image archive or layout whose one layer is the archive."""
        blob = path.read_bytes()
        from buildfront.image.compression import reader

        try:
            total = hashlib.sha256()
            tar = reader(io.BytesIO(blob))
            while data := tar.read(1 << 20):
                total.update(data)
            diff_id = "sha256:" + total.hexdigest()
        except (EOFError, OSError):
            diff_id = "sha256:" + "0" * 64
        config = json.dumps(
            {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
        ).encode()
        out = self.path / "archives" / f"{number}-{'docker' if docker else 'layout'}"
        if docker:
            with tarfile.open(out, "w") as archive:
                manifest = json.dumps(
                    [{"Config": "c.json", "Layers": ["l.tar"], "RepoTags": [f"i{number}:x"]}]
                ).encode()
                for name, data in (("manifest.json", manifest), ("c.json", config), ("l.tar", blob)):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            return out
        (out / "blobs" / "sha256").mkdir(parents=True)

        def put(data: bytes, kind: str) -> dict[str, object]:
            digest = hashlib.sha256(data).hexdigest()
            (out / "blobs" / "sha256" / digest).write_bytes(data)
            return {"mediaType": OCI + kind, "digest": "sha256:" + digest, "size": len(data)}

        manifest = {
            "schemaVersion": 2,
            "config": put(config, "config.v1+json"),
            "layers": [put(blob, "layer.v1.tar" + MEDIA.get(compression, ""))],
        }
        index = {"schemaVersion": 2, "manifests": [put(json.dumps(manifest).encode(), "manifest.v1+json")]}
        (out / "index.json").write_text(json.dumps(index))
        (out / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return out

    def enter(self, entry: str, name: str, number: int, path: Path, compression: str) -> None:
        if entry == "import":
            self.job(name, "import", path, "-t", f"i{number}")
        elif entry == "load":
            self.job(name, "load", "-i", path)
        elif entry == "context":
            self.job(name, "build", "-f", self.path / "Dockerfile", path)
        elif entry == "stdin":
            self.job(name, "build", "-f", self.path / "Dockerfile", "-", stdin=path)
        elif entry == "ADD":
            context = self.path / f"context-{number}"
            context.mkdir()
            os.link(path, context / "a.tar")
            (context / "Dockerfile").write_text("FROM scratch\nADD a.tar /d/\n")
            self.job(name, "build", context)
        else:
            assert entry in ("docker layer", "OCI layer")
            archive = self.layer(number, path, compression, docker=entry == "docker layer")
            context = self.path / f"context-{number}"
            context.mkdir()
            (context / "Dockerfile").write_text(f"FROM i{number}:x\nCOPY Dockerfile /new\n")
            self.job(name + ", load", "load", "-i", archive, "-t", f"i{number}:x")
            self.job(name + ", build", "build", "--pull=never", context)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    remove_tree(str(tmp_path))  # pytest's own way to remove a tree does not reach to the end of a deep one


ENTRIES = ("import", "load", "context", "stdin", "ADD", "docker layer", "OCI layer")


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry != "ADD"])
def test_every_hostile_archive_in_every_entry(place, entry) -> None:
    kinds = hostile.COMPRESSIONS if entry != "OCI layer" else hostile.COMPRESSIONS[:3]
    for number, (name, make) in enumerate(hostile.CASES.items()):
        kind = kinds[number % len(kinds)]
        path = place.write(number, hostile.compressed([make(str(place.outside))], kind))
        place.enter(entry, f"{name} ({kind})", number, path, kind)
    results = place.run()
    succeeded = sum(result["status"] == 0 for result in results.values())
    assert succeeded > 20 or entry == "load"  # not all is refused: a name with a line break is a name


@pytest.mark.parametrize("kind", hostile.COMPRESSIONS)
def test_ADD_of_every_hostile_archive_in_every_compression(place, kind) -> None:
    for number, (name, make) in enumerate(hostile.CASES.items()):
        path = place.write(number, hostile.compressed([make(str(place.outside))], kind))
        place.enter("ADD", name, number, path, kind)
    place.run()


@pytest.mark.parametrize("entry", ENTRIES)
def test_compressed_streams_that_mean_harm(place, entry) -> None:
    for number, (name, data) in enumerate(hostile.STREAMS.items()):
        path = place.write(number, [data])
        place.enter(entry, name, number, path, name.split(maxsplit=1)[0].strip(","))
    place.run()


@pytest.mark.parametrize("name", hostile.BIG)
def test_small_files_that_stand_for_much(place, name) -> None:
    path = place.write(0, hostile.compressed(hostile.BIG[name](), "zstd"))
    for number, entry in enumerate(ENTRIES):
        place.enter(entry, entry, number, path, "zstd")
    place.run()
