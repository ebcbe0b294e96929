"""Snapshots, with both drivers."""

import os
import stat
import threading

import pytest

from buildfront.store.image_store import Session, Store
from buildfront.store.snapshots import best
from buildfront.store.snapshots.overlay_mount import enter_private_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays")


@pytest.fixture
def isolated():
    """Runs a function in a thread with private mounts."""

    def call(function):
        out = []

        def work():
            try:
                enter_private_namespace()
                out.append((function(), None))
            except BaseException as error:  # noqa: BLE001 - handed to the test
                out.append((None, error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        value, error = out[0]
        if error is not None:
            raise error
        return value

    return call


@pytest.fixture(params=["overlay", "copy"])
def store(request, tmp_path):
    with Store(str(tmp_path / "store")) as opened:
        opened.catalogue.settle_meta("snapshots", request.param)
        yield opened


def write(active, **files):
    for name, text in files.items():
        with open(os.path.join(active.path, name), "w", encoding="utf-8") as stream:
            stream.write(text)


def read(session, number):
    with session.view(number) as view:
        out = {}
        for name in os.listdir(view.path):
            with open(os.path.join(view.path, name), encoding="utf-8") as stream:
                out[name] = stream.read()
        return out


def test_change_upon_change(store, isolated):
    def body():
        with store.session() as session:
            first = session.prepare(None)
            write(first, a="1", b="1")
            one = session.commit(first, None)
            second = session.prepare(one)
            write(second, b="2", c="2")
            os.unlink(os.path.join(second.path, "a"))
            two = session.commit(second, one)
            assert read(session, one) == {"a": "1", "b": "1"}
            assert read(session, two) == {"b": "2", "c": "2"}
            assert read(session, None) == {}
            assert store.has_snapshot(two) and not store.has_snapshot(two + 1)
        assert os.listdir(store.tmp) == []

    isolated(body)


def test_siblings_do_not_see_each_other(store, isolated):
    def body():
        with store.session() as session:
            first = session.prepare(None)
            write(first, a="1")
            one = session.commit(first, None)
            left, right = session.prepare(one), session.prepare(one)
            write(left, a="l")
            write(right, a="r")
            numbers = [session.commit(left, one), session.commit(right, one)]
            assert [read(session, number)["a"] for number in (*numbers, one)] == ["l", "r", "1"]

    isolated(body)


def test_discard(store, isolated):
    def body():
        with store.session() as session:
            active = session.prepare(None)
            write(active, a="1")
            active.discard()
            active.discard()
            assert not os.path.exists(active.path)
            assert store.catalogue.snapshot(1) is None

    isolated(body)


def test_an_empty_snapshot_is_left_out_of_the_stack(store, isolated):
    def body():
        with store.session() as session:
            first = session.prepare(None)
            write(first, a="1")
            one = session.commit(first, None)
            two = session.commit(session.prepare(one), one, empty=True)
            assert store.lineage(two) == [store.snapshot_path(one)]
            assert read(session, two) == {"a": "1"}

    isolated(body)


def test_the_root_keeps_its_attributes(store, isolated):
    def body():
        with store.session() as session:
            first = session.prepare(None)
            os.chown(first.path, 5, 6)
            os.chmod(first.path, 0o1750)
            one = session.commit(first, None)
            second = session.prepare(one)
            status = os.stat(second.path)
            second.discard()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (5, 6, 0o1750)

    isolated(body)


def test_a_copy_is_complete(store, isolated):
    def body():
        with store.session() as session:
            first = session.prepare(None)
            top = first.path
            write(first, a="1")
            os.link(os.path.join(top, "a"), os.path.join(top, "again"))
            os.symlink("nowhere", os.path.join(top, "link"))
            os.mkfifo(os.path.join(top, "fifo"))
            os.mknod(os.path.join(top, "null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
            os.chmod(os.path.join(top, "a"), 0o4711)
            os.chown(os.path.join(top, "link"), 7, 8, follow_symlinks=False)
            os.utime(os.path.join(top, "a"), ns=(1, 123456789))
            one = session.commit(first, None)
            second = session.prepare(one)
            found = {name: os.lstat(os.path.join(second.path, name)) for name in os.listdir(second.path)}
            assert found["a"].st_ino == found["again"].st_ino
            assert stat.S_IMODE(found["a"].st_mode) == 0o4711 and found["a"].st_mtime_ns == 123456789
            assert stat.S_ISFIFO(found["fifo"].st_mode) and found["null"].st_rdev == os.makedev(1, 3)
            assert found["link"].st_uid == 7
            second.discard()

    isolated(body)


def test_many_layers(store, isolated):
    def body():
        with store.session() as session:
            number = None
            for count in range(60 if store.driver(session.path).name == "overlay" else 10):
                active = session.prepare(number)
                write(active, **{f"f{count}": str(count), "same": str(count)})
                number = session.commit(active, number)
            found = read(session, number)
            assert len(found) == count + 2 and found["same"] == str(count)
            assert len(store.lineage(number)) == count + 1

    isolated(body)


def test_the_parent_stays_as_it_is(store, isolated):
    def body():
        with store.session() as session:
            first = session.prepare(None)
            os.mkdir(os.path.join(first.path, "d"))
            one = session.commit(first, None)
            second = session.prepare(one)
            os.rmdir(os.path.join(second.path, "d"))
            session.commit(second, one)
            with session.view(one) as view:
                assert os.listdir(view.path) == ["d"]

    isolated(body)


def test_the_driver_is_chosen_once(tmp_path, monkeypatch, isolated):
    def body():
        with Store(str(tmp_path / "s")) as store, store.session() as session:
            monkeypatch.setenv("BUILDFRONT_SNAPSHOTS", "copy")
            assert store.driver(session.path).name == "copy"
        with Store(str(tmp_path / "s")) as store, store.session() as session:
            monkeypatch.setenv("BUILDFRONT_SNAPSHOTS", "overlay")
            assert store.driver(session.path).name == "copy"

    isolated(body)


def test_overlay_is_the_best_where_it_works(tmp_path, isolated, monkeypatch):
    monkeypatch.delenv("BUILDFRONT_SNAPSHOTS", raising=False)
    assert isolated(lambda: best(str(tmp_path))) in ("overlay", "copy")
    assert os.listdir(tmp_path) == []


def test_mounts_end_with_the_namespace(tmp_path, isolated):
    def body():
        store = Store(str(tmp_path / "s"))
        store.catalogue.settle_meta("snapshots", "overlay")
        session = Session(store)
        active = session.prepare(None)
        write(active, a="1")
        assert os.path.ismount(active.path)
        return active.path

    path = isolated(body)
    assert not os.path.ismount(path)
