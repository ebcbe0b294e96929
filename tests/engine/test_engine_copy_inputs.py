"""The sources of COPY and ADD in their order: files of a tree, here-documents, what is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buildfront.context.directory import DirectoryContext
from buildfront.dockerfile.ignore import Ignore
from buildfront.engine.content import ContentDigests
from buildfront.engine.ops.copier import Copier
from buildfront.engine.ops.copy_inputs import groups, known_reads, look
from buildfront.engine.remote_sources import Fetched, NoRemoteSources, RemoteSource
from buildfront.errors import BuildError
from buildfront.graph import CopyOp, Origin
from buildfront.graph.step_graph import GitTree, HttpFile, Inline
from buildfront.store.image_store import Store
from run_step import Root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")

URL = HttpFile("https://example.org/f[1].txt")
TREE = GitTree("https://example.org/repo.git")


class Remotes:
    """Sources that lie on the machine already."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = True

    def identity(self, source: RemoteSource) -> str | None:
        return self.fetch(source).identity if self.known else None

    def fetch(self, source: RemoteSource, report: Any = None) -> Fetched:
        if isinstance(source, HttpFile):
            return Fetched(str(self.path / "http"), "f[1].txt", "file-1")
        return Fetched(str(self.path / "git"), "", "commit-1")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Any]:
    for name in ("context", "http", "git/.hidden", "target"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "context/a").write_text("a")
    (tmp_path / "context/b").write_text("b")
    (tmp_path / "http/f[1].txt").write_text("fetched")
    (tmp_path / "http/f1.txt").write_text("another")
    (tmp_path / "http/f[1].txt").chmod(0o600)
    os.utime(tmp_path / "http/f[1].txt", (10**9, 10**9))
    (tmp_path / "git/README").write_text("read")
    with Store(str(tmp_path / "store")) as store:
        contexts = {"": DirectoryContext(str(tmp_path / "context"), Ignore(()))}
        yield SimpleNamespace(
            contexts=contexts,
            digests=ContentDigests(store, contexts),
            remotes=Remotes(tmp_path),
            target=tmp_path / "target",
        )


def op(*sources: Any, dest: str = "/d/", **fields: Any) -> CopyOp:
    return CopyOp(sources, dest, Origin("context"), **fields)


def copied(state: Any, operation: CopyOp) -> tuple[str, ...]:
    """Copy, and return the digests of the sources."""
    build: Any = SimpleNamespace(state=state, check=lambda: None)
    with ExitStack() as stack, Root(str(state.target)) as target:
        ready = look(operation, build, None, stack, print)
        copier = Copier(operation, target)
        for item in ready:
            item.copy(copier, keep=False)
        copier.finish()
        return tuple(item.read for item in ready)


def test_paths_that_come_one_after_the_other_are_one_group() -> None:
    inline = Inline("EOF", "x")
    assert list(groups(op("a", "b", URL, "c", inline, inline))) == [("a", "b"), URL, ("c",), inline, inline]


def test_all_kinds_of_sources_are_copied_in_their_order(state: Any) -> None:
    reads = copied(state, op("a", URL, Inline("a", "the last one"), TREE, "b"))
    assert len(reads) == 5
    top = state.target / "d"
    assert sorted(os.listdir(top)) == [".hidden", "README", "a", "b", "f[1].txt"]
    assert (top / "a").read_text() == "the last one" and (top / "f[1].txt").read_text() == "fetched"
    status = (top / "f[1].txt").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o600, 10**9)


def test_the_digests_are_known_without_copying(state: Any) -> None:
    operation = op("a", URL, Inline("x", ""), TREE)
    assert known_reads(operation, state, None) == copied(state, operation)
    state.remotes.known = False
    assert known_reads(operation, state, None) is None


def test_each_part_counts(state: Any) -> None:
    operations = [
        op("a"),
        op("b"),
        op("a", "b"),
        op("b", "a"),
        op("a", excludes=("x",), parents=True),
        op(Inline("a", "x")),
        op(Inline("a", "y")),
        op(Inline("b", "x")),
        op(URL),
        op(HttpFile(URL.url, unpack=True)),
        op(TREE),
        op(TREE, URL),
        op(URL, TREE),
        op("a", Inline("b", "b")),
    ]
    assert len({known_reads(item, state, None) for item in operations}) == len(operations)


def test_a_git_tree_without_some_of_its_files(state: Any) -> None:
    copied(state, op(TREE, dest="/new", excludes=(".hidden",)))
    assert os.listdir(state.target / "new") == ["README"]


def test_a_fetched_file_takes_the_name_of_the_destination(state: Any) -> None:
    copied(state, op(URL, dest="/x/name"))
    assert (state.target / "x/name").read_text() == "fetched"


def test_without_remote_sources_the_place_is_named() -> None:
    for source in (URL, TREE):
        assert NoRemoteSources().identity(source) is None
        with pytest.raises(BuildError, match=r"https://example\.org/.* can't be fetched"):
            NoRemoteSources().fetch(source)
