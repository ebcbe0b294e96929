"""A catalogue or snapshots that are damaged, lost or of another version: success, or an error with the remedy."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_place import READING, Place, catalogue

from buildfront import BuildOptions, build, images, info
from buildfront.errors import BuildError
from buildfront.store import database
from buildfront.store.image_store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems")


# the catalogue


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
                store.catalogue.settle_meta("a", "b")
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


# Schemas that SQLite quotes in its message, with a byte that is not UTF-8: Python fails to decode the message.
SCHEMAS = {
    "table": ("steps", "sql", lambda text: text.replace(b"CREATE TABLE", b"CREATE TABL\x80")),
    "table-name": ("steps", "sql", lambda text: text.replace(b"TABLE steps", b"TABLE st\x80ps \x80")),
    "column": ("steps", "sql", lambda text: text.replace(b"components TEXT", b'components "\x80')),
    "index": ("steps_slot", "sql", lambda text: text.replace(b"ON steps", b"ON st\x80ps")),
    "index-name": ("steps_slot", "name", lambda text: text.replace(b"slot", b"sl\x80t")),
    "meta": ("meta", "sql", lambda text: b"\x80" + text),
}


def spoil_schema(path, name):
    row, column, change = SCHEMAS[name]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        version = db.execute("PRAGMA schema_version").fetchone()[0]
        query = f"SELECT CAST({column} AS BLOB) FROM sqlite_master WHERE name=?"
        text = change(db.execute(query, (row,)).fetchone()[0])
        assert b"\x80" in text
        db.execute("PRAGMA writable_schema=ON")
        db.execute(f"UPDATE sqlite_master SET {column}=CAST(? AS TEXT) WHERE name=?", (text, row))
        if column == "name":  # SQLite quotes the name where the text is damaged too
            db.execute("UPDATE sqlite_master SET sql='CREATE' WHERE CAST(name AS BLOB)=?", (text,))
        db.execute(f"PRAGMA schema_version={version + 1}")


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_is_not_utf_8_is_set_aside(place, name):
    spoil_schema(catalogue(place), name)
    with Store(place.root) as store:
        assert "set aside as catalogue.sqlite.damaged-1" in store.take_warnings()[0]
        assert store.catalogue.step("k") is None


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_is_not_utf_8_is_told_at_a_statement(place, name):
    with Store(place.root) as store:
        assert store.catalogue.step("k") is None
        spoil_schema(catalogue(place), name)
        with pytest.raises(BuildError, match="the catalogue is damaged"):
            store.catalogue.step("k")
        with pytest.raises(BuildError, match="the catalogue is damaged"):
            store.catalogue.set_files([(1, 2, 3, 4, 5, "digest")])


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_old_schema_that_is_not_utf_8_is_set_aside(place, name):
    with contextlib.closing(sqlite3.connect(catalogue(place))) as db:
        db.execute("PRAGMA user_version=1")
    spoil_schema(catalogue(place), name)
    with Store(place.root) as store:
        assert "set aside as catalogue.sqlite.damaged-1" in store.take_warnings()[0]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_is_not_utf_8_is_told_where_nothing_can_be_written(place, name, monkeypatch):
    spoil_schema(catalogue(place), name)
    monkeypatch.setattr(database.os, "access", lambda *_: False)
    with Store(place.root) as store, pytest.raises(BuildError, match="the catalogue is damaged") as caught:
        store.catalogue.step("k")
    assert "mend or remove" in caught.value.hint


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
    if name not in ("caches", "memo", "index.lock"):  # those are made when there is something for them
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


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": ' + "[" * 50_000, "\xff"])
def test_a_cache_whose_description_is_none(place, content):
    with Store(place.root) as store, store.session() as session:
        store.caches.take(session, "c", "", "shared", lambda _: None, threading.Event()).close()
        name = store.caches.name("c", "")
    with open(f"{place.root}/caches/{name}/cache.json", "w", encoding="utf-8") as stream:
        stream.write(content)
    assert len(info(place.root).cache_mounts) == 1
    place.good("prune", "-f")
    assert info(place.root).cache_mounts == ()
