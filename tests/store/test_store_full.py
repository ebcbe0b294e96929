"""Stores that can not be written to, and places that can be none: an error with the remedy, and nothing is left."""

import contextlib
import os
import resource
import stat
import subprocess
import sys

import pytest
from store_place import READING, Place, catalogue

from buildfront import BuildOptions, build
from buildfront.errors import BuildError
from buildfront.store.image_store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems")


# nothing can be written


@contextlib.contextmanager
def mounted(*words):
    subprocess.run(["mount", *map(str, words)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(words[-1])], check=True)


@pytest.mark.parametrize("log", ["closed", "open"])
def test_a_read_only_store_still_answers(place, tmp_path, log):
    if log == "open":  # as a program that was killed leaves it: not all is in the file itself
        code = "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
        code += "db.execute('INSERT INTO meta VALUES(1, 2)'); db.commit(); os._exit(0)"
        subprocess.run([sys.executable, "-c", code, catalogue(place)], check=True)
        assert os.path.getsize(catalogue(place) + "-wal")
    with mounted("--bind", "-o", "ro", place.root, place.root):
        subprocess.run(["mount", "-o", "remount,bind,ro", place.root], check=True)
        for words in READING:
            place.good(*words)
        assert "CACHED" in place.build("--jobs", "1").stderr
        place.good("build", "-t", "app", ".")
        with Store(place.root) as store:
            assert "Read-only" in store.catalogue.read_only
            assert (store.catalogue.meta("1") == "2") == (log == "open")
        for words in (
            ["tag", "app", "b"],
            ["build", "--no-cache", "."],
            ["prune", "-f"],
            ["import", "x", "-t", "x"],
        ):
            (place.context / "x").write_bytes(b"")
            done = place.fails(*words, says="Read-only file system")
            assert "hint:" in done.stderr
        place.fails("load", says="Read-only file system", input="x")
    place.works_again()


class Small:
    """A store on a filesystem of its own, filled up on request."""

    def __init__(self, place, path, options):
        self.place, self.root, self.path = place, f"{path}/store", path
        self.options = options

    def fill(self):
        number = 0
        with contextlib.suppress(OSError):
            while True:
                number += 1
                with open(f"{self.path}/fill-{number}", "wb", buffering=0) as stream:
                    if "nr_inodes" not in self.options:
                        for size in (1 << 16, 4096, 1):
                            with contextlib.suppress(OSError):
                                while True:
                                    stream.write(b"x" * size)

    def free(self):
        for name in os.listdir(self.path):
            if name.startswith("fill-"):
                os.unlink(os.path.join(self.path, name))


@pytest.fixture(params=["size=8m", "size=8m,nr_inodes=80"], ids=["blocks", "inodes"])
def small(request, tmp_path):
    place = Place(tmp_path)
    path = tmp_path / "small"
    path.mkdir()
    with mounted("-t", "tmpfs", "-o", f"mode=755,{request.param}", "small", path):
        place.root = f"{path}/store"
        yield Small(place, str(path), request.param)


def left(root):
    """What is there, apart from SQLite's log and the notes of cached builds."""
    found = set()
    for top, directories, files in os.walk(root):
        found |= {os.path.relpath(os.path.join(top, name), root) for name in [*directories, *files]}
    return {name for name in found if not name.startswith(("catalogue.sqlite-", "memo"))}


def test_a_full_disk_is_told_and_nothing_is_left(small):
    place = small.place
    place.good("build", "-t", "app", ".")
    (place.context / "large").write_bytes(os.urandom(20_000_000) if "inodes" not in small.options else b"x")
    subprocess.run(["tar", "-C", place.context, "-cf", place.path / "large.tar", "large"], check=True)
    place.good("build", "-o", f"type=oci,dest={place.path}/app.tar", ".", root=f"{place.path}/other")
    before = left(small.root)
    small.fill()
    cases = {
        "images": ["images"], "inspect": ["inspect", "app"], "info": ["info"], "plan": ["plan", "."],
        "cached": ["build", "--jobs", "1", "-t", "app", "."], "noted": ["build", "-t", "app", "."],
    }  # fmt: skip
    for words in cases.values():
        place.good(*words)
    for words in (
        ["build", "--no-cache", "."],
        ["import", place.path / "large.tar", "-t", "large"],
        ["load", "-i", place.path / "app.tar", "-t", "loaded"],
        ["tag", "app", "other"],
        ["pull", "127.0.0.1:1/x"],
        ["prune", "-f"],
    ):
        done = place(*words)
        assert done.returncode in (0, 1) and ("hint:" in done.stderr or not done.returncode), done.stderr
        assert left(small.root) - {"index.lock"} <= before, words
    done = place.fails("build", "--no-cache", ".", says="No space left on device")
    assert "make room" in done.stderr
    small.free()
    place.works_again()


LAYER = "FROM scratch\nCOPY large /large\n"


def test_a_disk_that_becomes_full_meanwhile(tmp_path):
    """While a COPY writes, while its layer is written, while an archive comes in."""
    place = Place(tmp_path)
    path = tmp_path / "small"
    path.mkdir()
    (place.context / "large").write_bytes(os.urandom(5_000_000))
    subprocess.run(["tar", "-C", place.context, "-cf", place.path / "large.tar", "large"], check=True)
    for size in ("3m", "7m"):  # no room for the file; room for the file, and none for its layer
        with mounted("-t", "tmpfs", "-o", f"mode=755,size={size}", "small", path):
            place.root = f"{path}/store"
            place.good("build", "-t", "app", ".")
            before = left(place.root)
            (place.context / "Dockerfile").write_text(LAYER)
            for words in (
                ["build", "--progress", "plain", "."],
                ["import", place.path / "large.tar", "-t", "x"],
            ):
                done = place(*words)
                if words[0] == "build" or size == "3m":
                    assert done.returncode == 1 and "No space left on device" in done.stderr, done.stderr
                    assert "make room" in done.stderr
                    assert left(place.root) - {"index.lock"} <= before, words
            if size == "3m":
                with open(place.path / "large.tar", "rb") as stream:
                    done = place("load", stdin=stream)
                assert done.returncode == 1 and "No space left on device" in done.stderr, done.stderr
                assert left(place.root) - {"index.lock"} <= before
            (place.context / "Dockerfile").write_text("FROM scratch\nCOPY file /file\nCOPY file /again\n")
            place.good("build", "-t", "app", ".")


def test_a_failed_layer_leaves_no_snapshot(place, monkeypatch):
    from buildfront.engine import layers

    before = os.listdir(f"{place.root}/snapshots")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(layers, "write_tar", fail)
    (place.context / "file").write_text("other\n")
    with pytest.raises(BuildError, match="Input/output error"):
        build(BuildOptions(context=str(place.context), root=place.root))
    assert sorted(os.listdir(f"{place.root}/snapshots")) == sorted(before)
    with Store(place.root) as store:
        rows = store.catalogue._db.execute("SELECT id FROM snapshots").fetchall()
        assert sorted(str(row[0]) for row in rows) == sorted(before)


@pytest.mark.parametrize("limit", range(8, 28, 4))
def test_few_descriptors(place, limit):
    def bounded():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    for words in (*READING, ["build", "--no-cache", "."], ["prune", "-f"]):
        place(*words, preexec_fn=bounded)
    place.works_again()


# where it is


@pytest.mark.parametrize(
    "name", ["a?b#c%41", "new\nline", "esc\x1b[2J", b"not-utf-8-\xff", " ", "ä", "-x", "a:b,c=d"]
)
def test_odd_paths(tmp_path, name):
    place = Place(tmp_path)
    place.root = (
        os.path.join(os.fsencode(tmp_path), name) if isinstance(name, bytes) else str(tmp_path / name)
    )
    place.root = os.fsdecode(place.root)
    place.works_again()
    for words in (*READING, ["prune", "-f"]):
        done = place.good(*words)
        assert "\x1b" not in done.stdout + done.stderr
    assert stat.S_IMODE(os.stat(place.root).st_mode) == 0o700


def test_paths_that_can_be_no_store(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "file").write_text("")
    for root in (
        tmp_path / "file",
        tmp_path / "file/store",
        tmp_path / ("x" * 300),
        "/" + "x/" * 3000,
        "/proc/store",
    ):
        for words in (["images"], ["build", "."]):
            done = place.fails(*words, root=str(root))
            assert "hint:" in done.stderr
    with pytest.raises(BuildError, match="NUL"):
        Store("/a\0b")


def test_a_filesystem_without_attributes_is_no_place_for_overlays(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "ramfs").mkdir()
    with mounted("-t", "ramfs", "ramfs", tmp_path / "ramfs"):
        os.chmod(tmp_path / "ramfs", 0o755)
        place.root = str(tmp_path / "ramfs" / "store")
        place.works_again()
        with Store(place.root) as store:
            assert store.catalogue.meta("snapshots") == "copy"
