"""Whatever a store is like: success, or an error that says where, why and what to do. Never a traceback."""

import contextlib
import json
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import as_user
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildfront.api import BuildOptions, build, images, inspect, tag
from buildfront.errors import BuildError
from buildfront.store import Store, database
from buildfront.store.index import REF_NAME
from buildfront.upkeep import info

sys.path.append(os.path.join(as_user.PROJECT, "tests", "build"))
from program import BUILDFRONT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems")
READING = (["images"], ["info"], ["inspect", "app"], ["plan", "."])
ENTRY = {"mediaType": "m", "digest": "sha256:" + "a" * 64, "size": 1}


class Place:
    """A store with the image ``app`` of one layer, and the context that it is built from."""

    def __init__(self, path):
        self.path = path
        self.root = str(path / "store")
        self.context = path / "context"
        self.context.mkdir()
        (self.context / "file").write_text("content\n")
        (self.context / "Dockerfile").write_text("FROM scratch\nCOPY file /file\nCOPY file /again\n")

    def __call__(self, *words, root=None, **more):
        """Run the program; it never shows a traceback."""
        command = [BUILDFRONT, "--root", root or self.root, *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, cwd=self.context, **more
        )
        assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2, 130), done.stderr
        return done

    def build(self, *more, **other):
        return self("build", "--progress", "plain", "-t", "app", *more, ".", **other)

    def good(self, *words, **more):
        done = self(*words, **more)
        assert done.returncode == 0, done.stderr
        return done

    def fails(self, *words, says="", **more):
        done = self(*words, **more)
        assert done.returncode == 1 and "error:" in done.stderr, (done.returncode, done.stderr)
        assert says in done.stderr, done.stderr
        return done

    def works_again(self):
        done = self.build("--no-cache")
        assert done.returncode == 0, done.stderr
        done = self.build("--jobs", "1")
        assert done.returncode == 0 and "CACHED" in done.stderr, done.stderr
        assert os.listdir(f"{self.root}/tmp") == []


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    done = made.build("--jobs", "1")
    assert done.returncode == 0, done.stderr
    return made


# index.json


def index(manifests):
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


ODD = {
    "empty": (b"", "no JSON"),
    "no-json": (b"{", "line 1 is no JSON"),
    "list": (b"[]", "no JSON object"),
    "null": (b"null", "no JSON object"),
    "manifests-object": (index({}), "manifests is no list"),
    "manifests-number": (index(3), "manifests is no list"),
    "manifests-text": (index("x"), "manifests is no list"),
    "entry-null": (index([None]), "manifests[0] is no JSON object"),
    "entry-text": (index([ENTRY, "x"]), "manifests[1] is no JSON object"),
    "annotations-list": (index([{**ENTRY, "annotations": []}]), "annotations"),
    "annotations-number": (index([{**ENTRY, "annotations": {"a": 1}}]), "annotations"),
    "annotations-null": (index([{**ENTRY, "annotations": None}]), "annotations"),
    "no-digest": (index([{"mediaType": "m", "size": 1}]), "has no digest"),
    "digest-number": (index([{**ENTRY, "digest": 5}]), "digest that is no text"),
    "digest-path": (index([{**ENTRY, "digest": "sha256:../../../etc/passwd"}]), "digest that is none"),
    "digest-empty": (index([{**ENTRY, "digest": ""}]), "digest that is none"),
    "digest-escape": (index([{**ENTRY, "digest": "sha256:\x1b[2J"}]), "digest that is none"),
    "size-true": (index([{**ENTRY, "size": True}]), "size"),
    "size-negative": (index([{**ENTRY, "size": -5}]), "size"),
    "size-text": (index([{**ENTRY, "size": "1"}]), "size"),
    "size-huge": (index([{**ENTRY, "size": 10**30}]), "size"),
    "no-media-type": (index([{"digest": "sha256:" + "a" * 64, "size": 1}]), "has no mediaType"),
    "half-a-character": (index([{**ENTRY, "annotations": {"a": "\ud800"}}]), "annotations"),
    "not-utf-8": (b'{"manifests": ["\xff"]}', "no UTF-8"),
    "utf-16": ('{"manifests": []}'.encode("utf-16"), "no UTF-8"),
    "deep": (b'{"manifests": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deep"),
    "long-number": (b'{"manifests": ' + b"1" * 10_000 + b"}", "no JSON"),
    "large": (b" " * (5 << 20), "larger than"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_index_is_named(place, name):
    content, says = ODD[name]
    with open(f"{place.root}/index.json", "wb") as stream:
        stream.write(content)
    with Store(place.root) as store:
        for call in (store.index.read, lambda: store.index.find("x"), lambda: store.index.set("x", ENTRY)):
            with pytest.raises(BuildError) as caught:
                call()
            assert (
                says in caught.value.what
                and place.root in caught.value.what
                and "index.json" in caught.value.what
            )
            assert caught.value.hint
    with open(f"{place.root}/index.json", "rb") as stream:
        assert stream.read() == content, "it is left as it is"
    assert not os.path.exists(f"{place.root}/index.json.new")


def test_every_command_says_so(place):
    (place.context / "x.tar").write_bytes(b"")
    with open(f"{place.root}/index.json", "w", encoding="utf-8") as stream:
        stream.write("[")
    for words in (
        *READING[:1],
        *READING[2:],
        ["tag", "app", "b"],
        ["push", "app", "127.0.0.1:1/x"],
        ["info"],
        ["build", "."],
    ):
        if words != ["plan", "."]:  # it needs no name
            place.fails(*words, says="index.json can't be used")
    place.good("prune", "-f")


def test_a_gigabyte_is_not_read(place):
    with open(f"{place.root}/index.json", "wb") as stream:
        stream.truncate(1 << 30)
    limit = 600 << 20

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    place.fails("images", says="larger than", preexec_fn=bounded)


def test_many_names_are_no_matter_of_minutes(place):
    with Store(place.root) as store:
        entries = [
            {
                **ENTRY,
                "digest": f"sha256:{number:064x}",
                "annotations": {REF_NAME: f"n{number}"},
            }
            for number in range(10_000)
        ]
        began = time.monotonic()
        store.index.change(lambda _: entries)
        store.index.set("one", ENTRY)
        assert len(store.index.read()) == 10_001
        assert time.monotonic() - began < 30
        with pytest.raises(BuildError, match="too many names"):
            store.index.change(lambda _: [{**ENTRY, "annotations": {"a": "x" * (5 << 20)}}])
        assert len(store.index.read()) == 10_001


def test_an_index_in_Gos_manner_and_a_missing_one(place):
    with open(f"{place.root}/index.json", "w", encoding="utf-8") as stream:
        stream.write('{"schemaVersion": 2, "manifests": null}')
    assert images(place.root) == []
    os.unlink(f"{place.root}/index.json")
    assert images(place.root) == []
    place.works_again()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["mediaType", "digest", "size", "annotations", "manifests", "x"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode()),
                         JSON.map(lambda value: index([value])), JSON.map(index)))  # fmt: skip
def test_fuzz_index(place, content):
    with open(f"{place.root}/index.json", "wb") as stream:
        stream.write(content)
    for call in (
        lambda: images(place.root),
        lambda: inspect("app", place.root),
        lambda: tag("app", "b", place.root),
        lambda: info(place.root),
    ):
        with contextlib.suppress(BuildError):
            call()


# the catalogue


def catalogue(place):
    return f"{place.root}/catalogue.sqlite"


def cut(path, size):
    with open(path, "r+b") as stream:
        stream.truncate(size)


def garbage(path):
    with open(path, "wb") as stream:
        stream.write(b"no database " * 1000)


def tables(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE steps")
        db.commit()


def pages(path):
    """Everything after the first page."""
    with open(path, "r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (os.path.getsize(path) - 4096))


DAMAGES = {
    "garbage": garbage,
    "cut": lambda path: cut(path, 5000),
    "short": lambda path: cut(path, 50),
    "tables": tables,
    "pages": pages,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_catalogue_is_set_aside(place, name):
    before = place.good("images").stdout
    numbers = [int(number) for number in os.listdir(f"{place.root}/snapshots")]
    DAMAGES[name](catalogue(place))
    done = place.build("--jobs", "1")
    if done.returncode:  # it showed at a statement, and not when it was opened
        assert "the catalogue is damaged" in done.stderr and "try again" in done.stderr
        done = place.build("--jobs", "1")
    else:
        assert "damaged" in done.stderr and "set aside as catalogue.sqlite.damaged-1" in done.stderr
    assert done.returncode == 0, done.stderr
    assert os.path.exists(catalogue(place) + ".damaged-1")
    assert place.good("images").stdout.splitlines()[1].split()[0] == before.splitlines()[1].split()[0]
    assert min(int(number) for number in os.listdir(f"{place.root}/snapshots")) > max(numbers)
    place.works_again()
    assert sorted(name for name in os.listdir(place.root) if "damaged" in name)[-1:] == [
        "catalogue.sqlite.damaged-1"
    ]


def test_the_second_one_has_another_name(place):
    for _ in range(2):
        garbage(catalogue(place))
        assert "set aside" in place.good("info").stderr
    assert {"catalogue.sqlite.damaged-1", "catalogue.sqlite.damaged-2"} <= set(os.listdir(place.root))


@pytest.mark.parametrize("how", ["removed", "empty"])
def test_a_lost_catalogue_is_made_anew(place, how):
    numbers = [int(number) for number in os.listdir(f"{place.root}/snapshots")]
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(catalogue(place) + end)
    if how == "empty":
        open(catalogue(place), "wb").close()
    image = place.good("inspect", "app").stdout
    assert os.listdir(f"{place.root}/snapshots") == []
    with Store(place.root) as store:
        assert store.catalogue.new_snapshot(None, False, 0) > max(numbers)
    assert place.good("inspect", "app").stdout == image
    place.works_again()


def test_a_number_that_a_lost_catalogue_gave(place):
    """As after a catalogue was put back from an older copy."""
    with Store(place.root) as store:
        number = store.catalogue.new_snapshot(None, False, 0) + 1
    os.makedirs(f"{place.root}/snapshots/{number}/fs/old")
    (place.context / "file").write_text("other\n")
    assert place.build().returncode == 0
    assert not os.path.exists(f"{place.root}/snapshots/{number}/fs/old")
    place.works_again()


def test_a_newer_catalogue_is_refused_by_name(place):
    with contextlib.closing(sqlite3.connect(catalogue(place))) as db:
        db.execute("PRAGMA user_version=99")
    for words in (*READING, ["build", "."], ["prune", "-f"]):
        done = place.fails(*words, says="made by a newer buildfront")
        assert "version 99" in done.stderr and "another store" in done.stderr
    with contextlib.closing(sqlite3.connect(catalogue(place))) as db:
        assert db.execute("SELECT count(*) FROM steps").fetchone()[0]


def test_a_catalogue_that_is_locked_for_ever(place, monkeypatch):
    monkeypatch.setattr(database, "TIMEOUT", 0.1)
    with contextlib.closing(sqlite3.connect(catalogue(place), isolation_level=None)) as db:
        with Store(place.root) as store:
            db.execute("BEGIN EXCLUSIVE")
            with pytest.raises(BuildError, match="locked by another program"):
                store.catalogue.set_meta("a", "b")
        db.execute("ROLLBACK")
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("INSERT INTO meta VALUES('a', 'b')")
        db.execute("COMMIT")
        with pytest.raises(BuildError, match="locked by another program"):
            Store(place.root)
    Store(place.root).close()


def test_rows_that_nobody_wrote(place):
    with Store(place.root) as store:
        number = max(int(name) for name in os.listdir(f"{place.root}/snapshots"))
        store.catalogue._db.execute("UPDATE snapshots SET parent=id WHERE id=?", (number,))
        with pytest.raises(BuildError, match="the catalogue is damaged"):
            store.catalogue.lineage(number)
        with pytest.raises(BuildError, match="the catalogue is damaged"):
            store.catalogue.meta("snapshots")
    place.works_again()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzz_catalogue(place, data):
    kept = place.path / "kept.sqlite"
    if not kept.exists():
        with contextlib.closing(sqlite3.connect(catalogue(place))) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(catalogue(place), kept)
    content = bytearray(kept.read_bytes())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=20)
    ):
        content[position] = value
    size = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    for name in os.listdir(place.root):
        if name.startswith("catalogue.sqlite"):
            os.unlink(os.path.join(place.root, name))
    with open(catalogue(place), "wb") as stream:
        stream.write(content[:size])
    options = BuildOptions(context=str(place.context), tags=("app",), root=place.root)
    for call in (lambda: images(place.root), lambda: info(place.root), lambda: build(options)):
        with contextlib.suppress(BuildError):
            call()


# what has been removed


@pytest.mark.parametrize(
    "name",
    ["blobs", "blobs/sha256", "tmp", "snapshots", "caches", "memo", "oci-layout", "index.json", "index.lock"],
)
def test_what_is_missing_is_made_again(place, name):
    path = os.path.join(place.root, name)
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    place("info")
    place.works_again()
    if name not in ("caches", "memo"):
        assert os.path.exists(path)


@pytest.mark.parametrize("driver", ["overlay", "copy"])
@pytest.mark.parametrize("what", ["all", "files", "row", "link"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_snapshot_that_is_missing_is_built_again(tmp_path, driver, what, which):
    """Whichever of the three: of the base, or of one of the two steps."""
    place = Place(tmp_path)
    env = {**os.environ, "BUILDFRONT_SNAPSHOTS": driver}
    subprocess.run(["tar", "-C", place.context, "-cf", place.path / "base.tar", "file"], check=True)
    place.good("import", place.path / "base.tar", "-t", "base")
    (place.context / "Dockerfile").write_text("FROM base\nCOPY file /one\nCOPY file /two\n")
    place.good("build", "-t", "app", ".", env=env)
    number = sorted(map(int, os.listdir(f"{place.root}/snapshots")))[which]
    path = f"{place.root}/snapshots/{number}"
    if what == "row":
        with contextlib.closing(sqlite3.connect(catalogue(place))) as db:
            db.execute("DELETE FROM snapshots WHERE id=?", (number,))
            db.commit()
    else:
        if what == "files":
            shutil.rmtree(os.path.join(path, "diff" if driver == "overlay" else "fs"))
        else:
            shutil.rmtree(path)
        if what == "link":
            os.symlink("/etc", path)
    (place.context / "Dockerfile").write_text("FROM base\nCOPY file /one\nCOPY file /two\nCOPY file /three\n")
    out = place.path / "out"
    place.good("build", "-t", "app", "-o", f"type=local,dest={out}", ".", env=env)
    assert sorted(os.listdir(out)) == ["file", "one", "three", "two"]
    place.good("build", "--jobs", "1", "-t", "app", ".")


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
    from buildfront.engine import work

    before = os.listdir(f"{place.root}/snapshots")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(work, "write_tar", fail)
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


def test_threads_that_find_the_damage_together(place):
    with Store(place.root) as store:
        store.catalogue._db.execute("DROP TABLE steps")
        errors = []

        def ask():
            try:
                store.catalogue.step("k")
            except BuildError as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 8
    assert len([name for name in os.listdir(place.root) if name.endswith("damaged-1")]) == 1
    assert not os.path.exists(catalogue(place) + ".damaged-2")
