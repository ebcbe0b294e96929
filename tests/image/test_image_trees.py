"""Trees that are deeper than the stack and than there are descriptors: compared, written, removed; and the sets that
stay small."""

import io
import os
import random

import pytest

from buildfront.image.diff import Comparison, Entry, EntryLog
from buildfront.image.layer import Applier, remove, write_tar
from buildfront.image.tar_reader import TarReader
from buildfront.image.trees import Directories, Marks
from run_step import Root, remove_tree

DEPTH = 3000
FLAGS = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def deep(tmp_path):
    """Two equal trees of 3 000 directories, the second with a file at the bottom and one in the middle."""
    for top in ("old", "new"):
        (tmp_path / top).mkdir()
        fd = os.open(tmp_path / top, FLAGS)
        for depth in range(DEPTH):
            os.mkdir("d", dir_fd=fd)
            inner = os.open("d", FLAGS, dir_fd=fd)
            os.close(fd)
            fd = inner
            if top == "new" and depth in (DEPTH // 2, DEPTH - 1):
                os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        for _ in range(DEPTH):
            os.utime(fd, (5, 5))
            above = os.open("..", FLAGS, dir_fd=fd)
            os.close(fd)
            fd = above
        os.close(fd)
    yield tmp_path
    for top in ("old", "new"):
        remove_tree(str(tmp_path / top))


@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize("complete", [True, False])
def test_deep_trees_are_compared_and_written(deep, complete) -> None:
    new, old = os.open(deep / "new", FLAGS), os.open(deep / "old", FLAGS)
    before = len(os.listdir("/proc/self/fd"))
    log = EntryLog(str(deep))
    for entry in Comparison(complete=complete).walk(new, old):
        log.add(entry)
    out = io.BytesIO()
    assert write_tar(log, new, out) == log.count == DEPTH + 2
    out.seek(0)
    found = [member.name for member in TarReader(out)]
    assert found[0] == "d" and found.count("d/" * DEPTH + "file") == 1
    log.close()
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(new)
    os.close(old)


@pytest.mark.slow
def test_a_deep_tree_is_removed_by_a_whiteout(deep) -> None:
    from hostile_archives import END, member

    with Root(str(deep / "new")) as root:
        Applier(root).apply(io.BytesIO(member(b".wh.d") + END))
    assert os.listdir(deep / "new") == []
    fd = os.open(deep, FLAGS)
    remove(fd, "old")
    os.close(fd)
    assert not (deep / "old").exists()


def test_directories_are_found_by_their_paths(tmp_path) -> None:
    chance = random.Random(7)
    paths = ["", "a", "a/b", "a/b/c", "a/x", "y", "y/z/w/v/u", "y/z"]
    for path in paths:
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
    root = os.open(tmp_path, FLAGS)
    with Directories(root) as directories:
        for path in chance.choices(paths, k=500):
            fd = directories.open(path)
            assert os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / path).rstrip("/")
        with pytest.raises(FileNotFoundError):
            directories.open("a/none/deeper")
        assert os.path.sameopenfile(directories.open("a"), os.open(tmp_path / "a", FLAGS))
    os.close(root)


def test_marks_are_a_set() -> None:
    chance = random.Random(3)
    marks, known = Marks(), set()
    for _ in range(200_000):
        value = chance.randrange(-(1 << 63), 1 << 63)
        marks.add(value)
        known.add(value)
    assert all(value in marks for value in list(known)[::97])
    assert not any(value in marks for value in range(1000))


def test_entries_are_read_back(tmp_path) -> None:
    log = EntryLog(str(tmp_path))
    entries = [Entry(f"d{n}/\udcff\n{n}", None if n % 3 else os.stat(tmp_path)) for n in range(100_000)]
    for entry in entries:
        log.add(entry)
    back = list(log)
    assert [entry.path for entry in back] == [entry.path for entry in entries]
    assert [entry.status is None for entry in back] == [entry.status is None for entry in entries]
    assert os.listdir(tmp_path) == []
    log.close()


@pytest.mark.root
def test_times_of_directories_are_those_of_the_tar_whatever_comes_later(tmp_path) -> None:
    from hostile_archives import END, header, member

    tar = (
        header(b"a", flag=b"5", mode=0o755, mtime=1000)
        + header(b"a/b", flag=b"5", mode=0o755, mtime=2000)
        + header(b"l", flag=b"2", link=b"a")
        + member(b"a/b/x", b"x")
        + member(b"l/through", b"x")
        + member(b"a/implied/y", b"y")
        + member(b"a/b/.wh.z")
        + END
    )
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "z").write_text("z")
    with Root(str(tmp_path)) as root:
        Applier(root).apply(io.BytesIO(tar))
    assert os.stat(tmp_path / "a").st_mtime == 1000
    assert os.stat(tmp_path / "a" / "b").st_mtime == 2000
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["x"]
