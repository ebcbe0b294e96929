"""Blobs, names, the catalogue, sessions."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from buildfront.errors import BuildError
from buildfront.image.digest import Digest
from buildfront.image.documents import json_object
from buildfront.image.layout_index import REF_NAME, NamedEntry
from buildfront.image.staging import Staging
from buildfront.store.image_store import Store


@pytest.fixture
def store(tmp_path):
    with Store(str(tmp_path / "store")) as opened:
        yield opened


def entry(letter, **annotations):
    value = {"mediaType": "m", "digest": "sha256:" + letter * 64, "size": 1}
    return NamedEntry.parse({**value, "annotations": annotations} if annotations else value, "it")


def python(code, *args):
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# the layout


def test_the_root_is_an_image_layout(store):
    with open(os.path.join(store.root, "oci-layout"), encoding="utf-8") as stream:
        assert json.load(stream) == {"imageLayoutVersion": "1.0.0"}
    with open(os.path.join(store.root, "index.json"), encoding="utf-8") as stream:
        assert json.load(stream)["manifests"] == []
    assert os.path.isdir(os.path.join(store.root, "blobs", "sha256"))
    assert stat.S_IMODE(os.stat(os.path.join(store.root, "oci-layout")).st_mode) == 0o644


def test_a_place_that_can_not_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="can't be made"):
        Store(str(tmp_path / "file" / "store"))


OPEN = """
import sys, time
from buildfront.image.layout_index import NamedEntry
from buildfront.store.image_store import Store
while time.time() < float(sys.argv[2]):
    pass
with Store(sys.argv[1]) as store, store.session() as session:
    session.put(b"same", "text")
    session.put(sys.argv[3].encode(), "text")
    value = {"digest": "sha256:" + sys.argv[3] * 64, "size": 1, "mediaType": "m"}
    store.index.set("name" + sys.argv[3], NamedEntry.parse(value, "it"))
    store.catalogue.new_snapshot(None, False, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_several_processes_make_the_same_store(tmp_path, attempt):
    at = str(time.time() + 1.5)
    running = [python(OPEN, str(tmp_path / "new"), at, str(number)) for number in range(6)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    with Store(str(tmp_path / "new")) as store:
        assert {item.name for item in store.index.read()} == {f"name{n}" for n in range(6)}
        assert len(os.listdir(store.blobs)) == 7
        assert len(store.catalogue.lineage(6)) == 1 and store.catalogue.lineage(7) == []
        assert store.stale_sessions() == []
    assert not [name for name in os.listdir(tmp_path / "new") if name.startswith("oci-layout.")]


# blobs


def test_blobs(store):
    with store.session() as session:
        found = session.put(b"data", "text")
        assert (found.digest, found.size, found.media_type) == (Digest.of(b"data"), 4, "text")
        assert session.put(b"data", "text") == found
        assert os.listdir(session.path) == ["lock"]
    assert store.read_blob(found.digest) == b"data"
    assert store.has_blob(found.digest)
    assert os.listdir(store.tmp) == []


def test_a_wrong_digest_leaves_nothing(store):
    with store.session() as session:
        staging = Staging(session)
        with pytest.raises(BuildError, match=r"the blob .* is damaged: its digest is"):
            staging.add([b"data"], "text", Digest.of(b"other"))
        assert os.listdir(session.path) == ["lock"]
    assert os.listdir(store.blobs) == []


def test_a_writer_that_is_dropped(store):
    with store.session() as session:
        writer = session.blob()
        writer.write(b"half")
        writer.discard()
        writer.discard()
        session.blob().write(b"never finished")
    assert os.listdir(store.blobs) == os.listdir(store.tmp) == []


def test_a_blob_that_was_changed_on_disk(store):
    with store.session() as session:
        found = session.put(b"{}", "json")
    assert json_object(store.read_blob(found.digest), "it") == {}
    with open(store.blob_path(found.digest), "wb") as stream:
        stream.write(b"[]")
    with pytest.raises(BuildError, match="is damaged"):
        store.read_blob(found.digest)


def test_blobs_that_are_no_use(store):
    with store.session() as session:
        noise, array = session.put(b"\xff{", "json"), session.put(b"[]", "json")
    with pytest.raises(BuildError, match=r"is not JSON$"):
        json_object(store.read_blob(noise.digest), "it")
    with pytest.raises(BuildError, match="is not a JSON object"):
        json_object(store.read_blob(array.digest), "it")
    with pytest.raises(BuildError, match="is not in the store"):
        store.read_blob(Digest.of(b"missing"))


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:" + "g" * 64, "sha512:" + "0" * 64, "sha256:../../etc"]
)
def test_bad_digests(store, digest):
    with pytest.raises(BuildError, match="unsupported digest"):
        store.blob_path(digest)


# names


def test_a_name_moves(store):
    store.index.set("n", entry("a"))
    store.index.set("n", entry("b"))
    assert store.index.find("n").digest == entry("b").digest
    assert store.index.read() == [entry("a"), entry("b", **{REF_NAME: "n"})]


def test_names_of_one_image(store):
    store.index.set("", entry("a"))
    store.index.set("n", entry("a"))
    store.index.set("m", entry("a"))
    store.index.set("n", entry("a"))
    assert sorted(item.name for item in store.index.read()) == ["m", "n"]
    store.index.change(lambda items: [item for item in items if item.name != "n"])
    assert store.index.find("n") is None and store.index.find("m")


def test_other_annotations_stay(store):
    store.index.set("n", entry("a", other="1"))
    assert store.index.find("n").annotations == {"other": "1", REF_NAME: "n"}
    store.index.set("n", entry("b"))
    assert store.index.read()[0] == entry("a", other="1")


CHANGE = """
import sys
import threading
from buildfront.image.layout_index import NamedEntry
from buildfront.store.index import ImageIndex
index = ImageIndex(sys.argv[1])
for number in range(15):
    value = {"digest": f"sha256:{sys.argv[2]}{number}", "size": 1, "mediaType": "m"}
    index.set(f"{sys.argv[2]}-{number}", NamedEntry.parse(value, "it"))
"""


def test_several_processes_change_the_index(store):
    running = [python(CHANGE, store.root, str(number)) for number in range(4)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert len(store.index.read()) == 60


# the catalogue


def test_lineage(store):
    catalogue = store.catalogue
    one = catalogue.new_snapshot(None, False, 1)
    two = catalogue.new_snapshot(one, True, 2)
    three = catalogue.new_snapshot(two, False, 3)
    assert [row.id for row in catalogue.lineage(three)] == [three, two, one]
    assert store.lineage(three) == [store.snapshot_path(three), store.snapshot_path(one)]
    assert catalogue.lineage(None) == []
    catalogue.set_layer(three, "diff", "digest", 7, "media")
    assert catalogue.snapshot(three) == (three, two, False, "diff", "digest", 7, "media", 3)
    catalogue.drop_snapshot(three)
    assert catalogue.snapshot(three) is None
    assert catalogue.new_snapshot(one, False, 4) > three


def test_rows(store):
    catalogue = store.catalogue
    assert catalogue.chain("c") is None and catalogue.step("k") is None and catalogue.meta("m") is None
    catalogue.set_chain("c", 1)
    catalogue.set_chain("c", 2)
    assert catalogue.chain("c") == 2
    assert catalogue.settle_meta("m", "v") == "v"
    assert catalogue.meta("m") == "v"
    catalogue.set_step("k", "slot", 3, True, "{}", 1, 2)
    catalogue.set_step("none", "slot", None, False, "{}", 1, 2)
    assert catalogue.step("k") == (3, True, "{}") and catalogue.step("none") == (None, False, "{}")
    catalogue.forget_step("k")
    assert catalogue.step("k") is None
    catalogue.set_content("s", 3, "x", "d")
    assert catalogue.content("s", 3, "x") == "d" and catalogue.content("s", 3, "y") is None
    assert catalogue.content("s", 4, "x") is None and catalogue.content("s", None, "x") is None
    catalogue.set_content("s", None, "x", "e")
    assert catalogue.content("s", None, "x") == "e" and catalogue.content("s", 3, "x") == "d"
    catalogue.forget_contents("s")
    assert catalogue.content("s", 3, "x") is None and catalogue.content("s", None, "x") is None


def test_a_file_is_known_until_it_changes(store):
    row = (1, 2, 3, 4, 5)
    store.catalogue.set_files([(*row, "d")])
    assert store.catalogue.file(*row) == "d"
    for number in range(5):
        assert store.catalogue.file(*(value + (place == number) for place, value in enumerate(row))) is None
    store.catalogue.set_files([(1, 2, 3, 4, 6, "e")])
    assert store.catalogue.file(*row) is None


# sessions


HOLD = """
import sys, time
from buildfront.store.image_store import Session, Store
session = Session(Store(sys.argv[1]))
session.blob().write(b"half")
print(session.path, flush=True)
time.sleep(60)
"""


def test_sessions_of_killed_processes_are_stale(store):
    process = python(HOLD, store.root)
    path = process.stdout.readline().strip()
    with store.session() as mine:
        assert set(os.listdir(store.tmp)) == {os.path.basename(path), os.path.basename(mine.path)}
        assert store.stale_sessions() == []
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert store.stale_sessions() == [path]
        store.remove_stale(path)
        assert os.listdir(store.tmp) == [os.path.basename(mine.path)]


def test_a_session_without_a_lock(store):
    """It was killed while it removed itself."""
    path = os.path.join(store.tmp, "s-new")
    os.makedirs(os.path.join(path, "active-1"))
    assert store.stale_sessions() == [path]
    store.remove_stale(path)
    assert os.listdir(store.tmp) == []


def test_other_things_beside_the_sessions(store):
    with open(os.path.join(store.tmp, "file"), "w", encoding="utf-8"):
        pass
    assert store.stale_sessions() == []


def test_a_session_that_ends_meanwhile(store, monkeypatch):
    monkeypatch.setattr(os, "listdir", lambda _: ["s-gone"])
    assert store.stale_sessions() == []


def test_a_session_ends_with_an_error(store):
    with pytest.raises(ZeroDivisionError), store.session() as session:
        session.directory("x")
        raise ZeroDivisionError
    assert os.listdir(store.tmp) == []


def test_places_are_distinct(store):
    with store.session() as session:
        assert session.place("x") != session.place("x")
        assert os.listdir(session.directory("x")) == []


def test_nobody_else_reaches_the_programs_of_images_and_caches(store):
    """One with the set-user-ID bit would run as root for every user of the machine."""
    with store.session() as session:
        taken = store.caches.take(session, "c", "", "shared", lambda _: None, threading.Event())
        taken.close()
    for name in (".", "snapshots", "caches"):
        assert stat.S_IMODE(os.stat(os.path.join(store.root, name)).st_mode) == 0o700
    # Below a closed directory: a step of another user has to pass there, in a mount namespace of its own.
    assert stat.S_IMODE(os.stat(store.tmp).st_mode) == 0o711


@pytest.mark.parametrize("files", [(), ("lock",)])
def test_a_session_that_died_while_it_was_made_is_stale_at_once(store, files):
    path = os.path.join(store.tmp, "new-early")
    os.mkdir(path)
    for name in files:
        open(os.path.join(path, name), "w").close()
    assert store.stale_sessions() == [path]
    store.remove_stale(path)
    assert store.stale_sessions() == []


def test_an_older_catalogue_forgets_what_it_can_not_be_sure_of(tmp_path):
    """Digests of a stage were kept by its key alone, and files could have changed while they were hashed."""
    import sqlite3

    with Store(str(tmp_path / "store")) as store:
        store.catalogue.set_step("k", "slot", 3, True, "{}", 1, 2)
        store.catalogue.set_files([(1, 2, 3, 4, 5, "d")])
    path = str(tmp_path / "store" / "catalogue.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE contents")
        db.execute(
            "CREATE TABLE contents(source TEXT, selector TEXT, digest TEXT, PRIMARY KEY(source, selector))"
        )
        db.execute("INSERT INTO contents VALUES('k', 'x', 'd')")
        db.execute("PRAGMA user_version=2")
    db.close()
    for _ in range(2):
        with Store(str(tmp_path / "store")) as store:
            assert store.catalogue.step("k") == (3, True, "{}")
            assert store.catalogue.file(1, 2, 3, 4, 5) is None
            assert store.catalogue.content("k", None, "x") is store.catalogue.content("k", 3, "x") is None
    with Store(str(tmp_path / "store")) as store:
        store.catalogue.set_content("k", 3, "x", "e")
        assert store.catalogue.content("k", 3, "x") == "e"


def test_a_file_dated_far_away_is_not_remembered_and_no_error(store):
    far = (1, 2, 3, 1 << 64, -(1 << 64))
    store.catalogue.set_files([(*far, "ab"), (1, 3, 3, 4, 5, "cd")])
    assert store.catalogue.file(*far) is None
    assert store.catalogue.file(1, 3, 3, 4, 5) == "cd"
