"""Archives that mean harm, in every place where an archive comes in: success or an error, in little time and memory,
nothing left in the store's temporary directory, nothing changed outside."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import hostile_archives as hostile
import pytest
from program import BUILDFRONT
from test_build_failures import until

from buildfront.errors import BuildError
from buildfront.image import layout_files
from buildfront.image.compression import layer_reader
from run_step import remove_tree
from run_step.linux import mount

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


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if "layer" not in entry])
def test_a_disk_that_is_full_is_told_and_nothing_stays(place, entry) -> None:
    def parts() -> Iterator[bytes]:
        yield hostile.header(b"big", size=200 << 20)
        yield from (bytes(1 << 20) for _ in range(200))
        yield hostile.END

    store = place.path / "store"
    store.mkdir()
    path = place.write(0, hostile.compressed(parts(), "bzip2"))
    place.enter(entry, entry, 0, path, "bzip2")
    mount.mount("tmpfs", str(store), "tmpfs", 0, "size=60m,mode=700")
    try:
        results = place.run()
        assert results[entry]["status"] == 1
        assert "No space left on device" in str(results[entry]["stderr"])
    finally:
        mount.umount(str(store), mount.MNT_DETACH)


def test_a_build_that_unpacks_ends_when_it_is_interrupted(place) -> None:
    zeros = hostile.compressed([hostile.header(b"big", size=hostile.base256(20 << 30, 12))], "zstd")
    path = place.write(0, [*zeros, *[hostile.zstd_zeros(1 << 10)] * 160])
    context = place.path / "context"
    context.mkdir()
    os.link(path, context / "a.tar")
    (context / "Dockerfile").write_text("FROM scratch\nADD a.tar /d/\n")
    command = [BUILDFRONT, "--root", place.path / "store", "build", context]
    build = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: any((place.path / "store" / "tmp").glob("s-*/active-*/snapshot/**/big")), "it unpacks")
    build.send_signal(signal.SIGINT)
    _, told = build.communicate(timeout=30)  # 20 GiB take longer
    assert build.returncode == 130 and "Traceback" not in told
    assert os.listdir(place.path / "store" / "tmp") == []


@pytest.mark.parametrize(
    ("media_type", "kind", "words"),
    [
        ("application/vnd.oci.image.layer.v1.tar", "plain", ""),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip", ""),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "zstd", ""),
        ("application/vnd.docker.image.rootfs.diff.tar", "plain", ""),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "gzip", ""),
        ("application/vnd.oci.image.layer.v1.tar", "gzip", "is not compressed, and the layer is gzip"),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "plain", "is gzip, and the layer is not compressed"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "xz", "is zstd, and the layer is xz"),
        ("application/vnd.oci.image.layer.v1.tar+lzma", "xz", "is unknown"),
        ("", "gzip", "its media type '' is unknown"),
    ],
)
def test_a_layer_is_what_its_media_type_says(media_type, kind, words) -> None:
    tar = hostile.member(b"BZh91AY&SY", b"x") + hostile.END
    data = b"".join(hostile.compressed([tar], kind))
    if words:
        with pytest.raises(BuildError, match=words):
            layer_reader(io.BytesIO(data), media_type)
    else:
        assert layer_reader(io.BytesIO(data), media_type).read() == tar


@pytest.mark.parametrize("kind", hostile.COMPRESSIONS)
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_an_image_archive_in_any_compression_from_a_file_or_a_pipe(place, kind, way) -> None:
    """With a layer in the same compression, whose first file has the name of another one's beginning."""
    tar = hostile.member(b"\x1f\x8b\x08", b"x") + hostile.END
    layer = place.write(1, hostile.compressed([tar], kind))
    image = place.layer(1, layer, kind, docker=True)
    path = place.write(2, hostile.compressed([image.read_bytes()], kind))
    command = [BUILDFRONT, "--root", place.path / "store"]
    if way == "pipe":
        fifo = place.path / "fifo"
        os.mkfifo(fifo)
        with subprocess.Popen(["cp", path, fifo]) as writer:
            subprocess.run([*command, "load", "-i", fifo], check=True)
            assert writer.wait() == 0
    else:
        subprocess.run([*command, "load", "-i", path], check=True)
    context = place.path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM i1:x\nCOPY Dockerfile /\n")
    out = place.path / "out"
    subprocess.run([*command, "build", "-o", f"type=local,dest={out}", context], check=True)
    assert (os.fsencode(out) + b"/\x1f\x8b\x08") in [
        os.fsencode(out) + b"/" + n for n in os.listdir(os.fsencode(out))
    ]


def test_a_pipe_that_nobody_writes_to_is_told(place, monkeypatch) -> None:
    monkeypatch.setattr(layout_files, "_WAIT", 0.2)
    os.mkfifo(place.path / "fifo")
    with pytest.raises(BuildError, match=r"no program writes to the pipe .*fifo"):
        layout_files.open_archive(str(place.path / "fifo"), str(place.path))


@pytest.mark.parametrize("what", ["fifo", "device", "link", "directory", "large"])
def test_files_of_a_layout_that_are_none(place, what) -> None:
    layout = place.layer(1, place.write(1, [hostile.TAR]), "plain", docker=False)
    index = layout / "index.json"
    index.unlink()
    if what == "fifo":
        os.mkfifo(index)
    elif what == "device":
        os.mknod(index, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    elif what == "link":
        index.symlink_to("/dev/zero")
    elif what == "directory":
        index.mkdir()
    else:
        with open(index, "wb") as out:
            out.truncate(1 << 40)
    for name in os.listdir(layout / "blobs" / "sha256"):
        blob = layout / "blobs" / "sha256" / name
        assert layout_files.LayoutFiles(str(layout)).has(f"blobs/sha256/{name}")
        blob.unlink()
        os.mkfifo(blob)
        with pytest.raises(BuildError, match="is not a regular file"):
            layout_files.LayoutFiles(str(layout)).read(f"blobs/sha256/{name}")
    place.job(what, "load", "-i", layout)
    results = place.run()
    assert results[what]["status"] == 1


def test_many_entries_take_no_more_memory_than_few(place) -> None:
    """A million take as much, and minutes: measured by hand."""
    for number, count in enumerate((1000, 60_000)):
        path = place.write(number, hostile.compressed(hostile.many(count), "zstd"))
        for entry in ("import", "ADD", "docker layer"):
            place.enter(entry, f"{entry} of {count}", 10 * number + len(entry), path, "zstd")
    results = place.run()
    for name in ("import of", "ADD of"):
        few, many = (int(str(results[f"{name} {count}"]["rss"])) for count in (1000, 60_000))
        assert many < few + (20 << 20)
