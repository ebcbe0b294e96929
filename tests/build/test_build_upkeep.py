"""``info`` and ``prune``: cache mounts listed and removed, those in use left alone."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from program import BUILDFRONT

from buildfront import BuildError, CacheMount, info, parse_prune_filters, prune
from buildfront.store import caches
from buildfront.store.image_store import Store

if TYPE_CHECKING:
    from conftest import Builds  # there are several modules of that name


def cache_mounts(root: str) -> list[CacheMount]:
    return list(info(root).cache_mounts)


THREE = """FROM box
RUN --mount=type=cache,target=/c,id=one head -c 100000 /dev/zero > /c/big
RUN --mount=type=cache,target=/c,id=two echo x > /c/small
RUN --mount=type=cache,target=/c,id=two,mode=0700 echo x > /c/other
"""


def test_an_empty_store_has_nothing(bf: Builds) -> None:
    found = json.loads(bf("info", "--format", "json").stdout)
    assert (found["images"], found["cache_mounts"], found["blobs"]["count"]) == (0, [], 0)
    assert bf("prune").stderr == "removed 0, 0B\n"


def test_caches_are_listed_and_pruned(box: Builds) -> None:
    box.build(box.context(THREE), "--isolation", "chroot")
    root = str(box.store)
    rows = cache_mounts(root)
    assert sorted(row.id for row in rows) == ["one", "two", "two"]
    assert all(not row.in_use and os.path.isdir(row.path) for row in rows)
    (one,) = [row for row in rows if row.id == "one"]
    assert 100_000 <= one.size < 200_000
    text = box("info").stdout
    assert "caches     3" in text
    assert "CACHE MOUNT" in text
    assert info(root).snapshots > 0

    assert box("prune", "--filter", "id=none", "--format", "json").stdout.strip() == "[]"
    assert prune(("until=1h",), root) == []
    done = json.loads(box("prune", "-f", "--filter", "id=two", "--format", "json").stdout)
    assert [row["id"] for row in done] == ["two", "two"]
    assert [row.id for row in cache_mounts(root)] == ["one"]
    assert box("prune", "--filter", "type=exec.cachemount").stderr.startswith("removed 1, 1")
    assert cache_mounts(root) == []
    assert list((box.store / "tmp").iterdir()) == []


def test_a_pruned_cache_starts_again(box: Builds) -> None:
    text = "FROM box\nRUN --mount=type=cache,target=/c ls /c > /seen; echo x > /c/kept"
    assert (box.files(box.context(text), "--no-cache") / "seen").read_text() == ""
    assert (box.files(box.context(text), "--no-cache") / "seen").read_text() == "kept\n"
    box("prune")
    assert (box.files(box.context(text), "--no-cache") / "seen").read_text() == ""


def test_what_is_not_used_for_long_goes(box: Builds) -> None:
    box.build(box.context("FROM box\nRUN --mount=type=cache,target=/c true"))
    (row,) = cache_mounts(str(box.store))
    then = time.time() - 7200
    os.utime(Path(row.path).parent / "lock", (then, then))
    assert prune(("until=3h",), str(box.store)) == []
    assert [item.id for item in prune(("until=1h",), str(box.store))] == ["/c"]


def test_a_cache_in_use_stays(box: Builds) -> None:
    with Store(str(box.store)) as store, store.session() as session:
        taken = store.caches.take(session, "mine", "", "shared", lambda _: None, threading.Event())
        assert taken is not None
        (row,) = cache_mounts(str(box.store))
        assert row.in_use
        assert "yes" in box("info").stdout
        assert prune((), str(box.store)) == []
        assert os.path.isdir(taken.path)
        taken.close()
        assert len(prune((), str(box.store))) == 1
        assert os.listdir(store.caches.directory) == []


def test_a_locked_cache_is_one_whatever_is_pruned(box: Builds) -> None:
    """An instance that is made where one was pruned is not the first, which somebody uses."""
    with Store(str(box.store)) as store, store.session() as session:
        cancel = threading.Event()

        def take(sharing: str) -> caches.Cache:
            taken = store.caches.take(session, "mine", "", sharing, lambda _: None, cancel)
            assert taken is not None
            return taken

        first, second = take("private"), take("private")
        first.close()
        assert len(prune((), str(box.store))) == 1
        third = take("private")
        assert len({first.path, second.path, third.path}) == 3
        threading.Timer(0.3, second.close).start()
        assert take("locked").path == second.path
        third.close()


@pytest.mark.parametrize("sharing", ["shared", "private"])
def test_a_look_at_a_cache_makes_no_second_one(
    box: Builds, sharing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lists the caches holds each for a moment, to see that nobody does."""
    monkeypatch.setattr(caches, "_LOOK", 5.0)
    with Store(str(box.store)) as store, store.session() as session:

        def take() -> caches.Cache:
            taken = store.caches.take(session, "mine", "", sharing, lambda _: None, threading.Event())
            assert taken is not None
            return taken

        take().close()
        (row,) = cache_mounts(str(box.store))
        with open(Path(row.path).parent / "lock", "rb") as looks:
            fcntl.flock(looks, fcntl.LOCK_EX)
            threading.Timer(0.5, lambda: fcntl.flock(looks, fcntl.LOCK_UN)).start()
            taken = take()
        assert taken.path == row.path
        taken.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown filter"),
        ("ident=x", "unknown filter"),
        ("id", "unknown filter"),
        ("id=", "unknown filter"),
        ("type=source.local", "unknown type"),
        ("until=yesterday", "invalid duration"),
    ],
)
def test_a_filter_that_is_none_is_told(bf: Builds, text: str, words: str) -> None:
    done = bf("prune", "--filter", text, check=False)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_filter_is_given_once() -> None:
    with pytest.raises(BuildError, match="given twice"):
        parse_prune_filters(("id=a", "id=b"))


def test_an_id_does_not_speak_to_the_terminal(box: Builds) -> None:
    context = box.context("FROM box\nARG X\nRUN --mount=type=cache,target=/c,id=$X true\n")
    box.build(context, "--build-arg", "X=a\x1b]0;title\x07b")
    out = box("info").stdout + box("prune").stdout
    assert "\x1b" not in out
    assert r"a\x1b]0;title\x07b" in out


def test_on_a_terminal_it_asks(box: Builds) -> None:
    box.build(box.context("FROM box\nRUN --mount=type=cache,target=/c true"))
    primary, secondary = os.openpty()
    try:
        command = [BUILDFRONT, "prune"]
        env = {**os.environ, "BUILDFRONT_ROOT": str(box.store)}
        process = subprocess.Popen(
            command, stdin=secondary, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
        os.write(primary, b"n\n")
        _, errors = process.communicate(timeout=60)
    finally:
        os.close(primary)
        os.close(secondary)
    assert process.returncode == 130
    assert b"Remove the cache mounts" in errors
    assert len(cache_mounts(str(box.store))) == 1
