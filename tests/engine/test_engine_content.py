"""Digests of what COPY reads: what is remembered, what is looked at again, and for how long a status is no proof."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.context.directory import DirectoryContext
from buildfront.dockerfile.ignore import Ignore
from buildfront.engine import content as module
from buildfront.engine import selection
from buildfront.engine.content import ContentDigests, _unsettled
from buildfront.engine.result import Result
from buildfront.engine.selection import Wanted
from buildfront.errors import BuildError
from buildfront.store.image_store import Store
from run_step import Root

WANT = Wanted((".",))
MS = 1_000_000


@pytest.fixture
def store(tmp_path):
    with Store(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def top(tmp_path):
    top = tmp_path / "context"
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/file").write_text("1")
    (top / "dir/link").symlink_to("file")
    return top


def digests(store: Store, top: Path) -> ContentDigests:
    return ContentDigests(store, {"": DirectoryContext(str(top), Ignore(()))})


def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from now on."""
    original, read = module.hash_fd, list[str]()

    def hash_fd(fd: int, status: os.stat_result, *more: Any) -> str:
        read.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        return original(fd, status)

    monkeypatch.setattr(module, "hash_fd", hash_fd)
    return read


def again(store: Store, top: Path) -> str:
    """The digest of a builder that has just been started."""
    made = digests(store, top)
    value = made.of_context("", WANT)[0]
    made.save()
    return value


def test_a_file_is_read_once(store, top, monkeypatch):
    read = count(monkeypatch)
    first = again(store, top)
    assert again(store, top) == first and read == ["file"]


def test_one_file_of_two_names_is_read_once(store, top, monkeypatch):
    os.link(top / "dir/file", top / "dir/other")
    read = count(monkeypatch)
    again(store, top)
    assert read == ["file"]


@pytest.mark.parametrize("kind", ["content", "replaced", "mode", "name"])
def test_a_file_that_changed_is_read_again_though_its_size_and_time_are_the_same(
    store, top, monkeypatch, kind
):
    path = top / "dir/file"
    first = again(store, top)
    before = path.stat()
    if kind == "content":
        path.write_text("2")
    elif kind == "replaced":
        (top / "new").write_text("2")
        os.rename(top / "new", path)
    elif kind == "mode":
        path.chmod(0o600)
    else:
        os.rename(path, top / "dir/uno")
        path = top / "dir/uno"
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    read = count(monkeypatch)
    assert again(store, top) != first and read == [path.name]


def test_a_file_is_not_read_as_long_as_it_could_change_without_a_trace(store, top, monkeypatch):
    """What changes within a tick of the clock has the same change time."""
    waited = []
    path = top / "dir/file"

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        now.append(now[-1] + int(seconds * 1e9))

    now = [path.stat().st_ctime_ns + MS]
    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "time_ns", lambda: now[-1])
    again(store, top)
    assert len(waited) == 1 and 0.04 < waited[0] < 2.1
    again(store, top)
    assert len(waited) == 1, "what is known is believed"


def test_a_whole_context_is_waited_for_once(store, top, monkeypatch):
    for number in range(50):
        (top / f"{number}").write_text(f"{number}")
    waited = []
    original = time.sleep
    monkeypatch.setattr(module.time, "sleep", lambda seconds: (waited.append(seconds), original(seconds)))
    again(store, top)
    assert sum(waited) < 2.2


@given(st.integers(-(10**10), 10**10), st.integers(0, 10**18), st.booleans())
def test_what_is_settled(age, moment, coarse):
    changed = moment // 10**9 * 10**9 if coarse else moment | 1
    rest = _unsettled(changed, changed + age)
    assert rest >= 0
    if 0 <= age < 20 * MS:
        assert rest, "a tick of the clock is ten milliseconds at most"
    if coarse and 0 <= age < 10**9:
        assert rest, "a filesystem that counts seconds"
    assert _unsettled(changed, changed + age + rest) == 0
    assert rest < 4 * 10**9


VANISH = {
    "a file": lambda t: (t / "dir/file").unlink(),
    "a directory": lambda t: ((t / "dir/sub").rmdir(), (t / "dir/sub").symlink_to("/etc")),
    "a link": lambda t: ((t / "dir/link").unlink(), (t / "dir/link").mkdir()),
    "a file for a FIFO": lambda t: ((t / "dir/file").unlink(), os.mkfifo(t / "dir/file")),
    "a file for a link to nothing": lambda t: (
        (t / "dir/file").unlink(),
        (t / "dir/file").symlink_to("none"),
    ),
    "a file for a directory": lambda t: ((t / "dir/file").unlink(), (t / "dir/file").mkdir()),
    "nothing": lambda t: None,
    "one more": lambda t: (t / "dir/new").write_text("new"),
}


@pytest.mark.parametrize("kind", VANISH)
@pytest.mark.parametrize("when", ["listed", "selected"])
def test_what_goes_while_it_is_looked_at(store, top, monkeypatch, kind, when):
    """After the names of a directory were read, and after all was selected: what comes of it is true of one moment,
    and the next look gives what is there now."""
    done: list[int] = []

    def change() -> None:
        if not done:
            done.append(1)
            VANISH[kind](top)

    if when == "listed":
        listdir = os.listdir

        def listed(path: Any = ".") -> list[str]:
            names = listdir(path)
            if "file" in names and "link" in names:
                change()
            return names

        monkeypatch.setattr(selection.os, "listdir", listed)
    else:
        original = module.digest

        def digest(*args: Any, **more: Any) -> str:
            change()
            return original(*args, **more)

        monkeypatch.setattr(module, "digest", digest)
    found = digests(store, top)
    value, selections = found.of_context("", WANT)
    assert done
    with Root(str(top)) as root:
        now = module.digest(root, module.select(root, WANT), module.hash_fd, owners=False)
    paths = {item.path for item in selections[0].items}
    assert value == now or paths == {"", "dir", "dir/file", "dir/link", "dir/sub"}
    found.look_again("", WANT, (value, selections))
    assert again(store, top) == now


def test_a_source_that_goes_is_told_as_missing(store, top, monkeypatch):
    original = module.digest

    def digest(*args: Any, **more: Any) -> str:
        (top / "dir/file").unlink(missing_ok=True)
        return original(*args, **more)

    monkeypatch.setattr(module, "digest", digest)
    with pytest.raises(BuildError, match="'dir/file' is not in the build context"):
        digests(store, top).of_context("", Wanted(("dir/file",)))


def test_a_file_that_never_rests_is_an_error(store, top, monkeypatch):
    number = iter(range(100))
    original = module.hash_fd

    def hash_fd(fd: int, status: os.stat_result, *more: Any) -> str:
        value = original(fd, status)
        (top / "dir/file").write_text(str(next(number)))
        return value

    monkeypatch.setattr(module, "hash_fd", hash_fd)
    with pytest.raises(BuildError, match="'dir/file' changed while it was copied") as caught:
        digests(store, top).of_context("", WANT)
    assert "build again" in caught.value.hint
    assert next(number) < 10


def test_the_first_look_counts_until_it_is_given_up(store, top):
    found = digests(store, top)
    first = found.of_context("", WANT)
    (top / "dir/file").write_text("2")
    assert found.of_context("", WANT) is first
    found.look_again("", WANT, first)
    second = found.of_context("", WANT)
    assert second[0] != first[0]
    found.look_again("", WANT, first)  # somebody else's, given up already
    assert found.of_context("", WANT) is second


def test_what_can_not_be_read_says_why(store, top, monkeypatch):
    def refused(*args: Any, **more: Any) -> str:
        raise OSError(5, "Input/output error", "dir/file")

    monkeypatch.setattr(module, "digest", refused)
    with pytest.raises(BuildError, match="'dir/file' in the build context can't be read: Input/output error"):
        digests(store, top).of_context("", WANT)


def test_a_stages_digest_is_of_one_run(store, top):
    """Another build may have run the step again meanwhile: the key is the same, the files are not."""
    found = digests(store, top)
    with Root(str(top)) as root:
        first = found.of_tree(Wanted(("dir",)), root, Result("key", 1), "stage")[0]
        (top / "dir/file").write_text("2")
        second = found.of_tree(Wanted(("dir",)), root, Result("key", 2), "stage")[0]
    assert first != second
    assert found.of_step(Wanted(("dir",)), Result("key", 1)) == first
    assert found.of_step(Wanted(("dir",)), Result("key", 2)) == second
    for number in (3, None):
        assert found.of_step(Wanted(("dir",)), Result("key", number)) is None
    assert found.of_step(Wanted(("dir", "")), Result("key", 1)) is None
