"""Remote sources of a build: each once, several at the same time, and an end that leaves no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from buildfront.context.downloaded import Downloaded
from buildfront.context.git_commit import Resolved, fixed
from buildfront.engine import fetching
from buildfront.engine.cancellation import Cancellation, Cancelled
from buildfront.engine.fetching import Fetching, git_identity, pinned
from buildfront.errors import BuildError
from buildfront.graph.step_graph import GitTree, HttpFile

SUM = "sha256:" + "a" * 64
COMMIT = "0123456789" * 4


class Trees:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def resolve(self, tree: GitTree) -> Resolved:
        self.calls.append("resolve")
        return fixed(tree) or Resolved(f"refs/heads/{tree.ref}", "1" * 40)

    def check_out(self, tree: GitTree, wanted: Resolved) -> str:
        self.calls.append("check out")
        return f"/trees/{wanted.object}"


class Remote:
    """Stands for :class:`buildfront.context.remote.Remote`; ``have`` are files that have not changed."""

    def __init__(self, have: tuple[str, ...] = (), wait: Callable[[], None] = lambda: None) -> None:
        self.check: Callable[[], None] = lambda: None
        self.trees = Trees()
        self.have = have
        self.wait = wait
        self.calls: list[tuple[str, str]] = []
        self.aborted = False

    def known(self, url: str, name: str, checksum: str) -> Downloaded | None:
        self.calls.append(("known", url))
        return Downloaded(f"/kept/{name}", SUM, 7) if url in self.have else None

    def fetch(self, url: str, name: str, checksum: str, report: Any) -> Downloaded:
        self.calls.append(("fetch", url))
        report(5, 10)
        self.wait()
        if "bad" in url:
            raise BuildError(f"{url} is bad")
        return Downloaded(f"/new/{name}", SUM, 9)

    def abort(self) -> None:
        self.aborted = True


def make(remote: Remote) -> Fetching:
    return Fetching(remote)  # type: ignore[arg-type]


def test_a_file_that_has_not_changed_is_known_without_fetching() -> None:
    remote = Remote(have=("http://h/f",))
    remotes = make(remote)
    source = HttpFile("http://h/f")
    remotes.look([source])
    assert remotes.identity(source) == f"http {SUM} 7 f"
    assert remotes.fetch(source).path == "/kept/f"
    assert remote.calls == [("known", "http://h/f")]
    remotes.close()


def test_a_file_is_fetched_once_whoever_asks() -> None:
    remote = Remote()
    remotes = make(remote)
    source = HttpFile("http://h/f")
    assert remotes.identity(source) is None
    remotes.begin([source])
    found = {remotes.fetch(source), remotes.fetch(HttpFile("http://h/f"))}
    assert [(item.path, item.name, item.identity) for item in found] == [("/new/f", "f", f"http {SUM} 9 f")]
    assert remote.calls.count(("fetch", "http://h/f")) == 1
    remotes.close()


def test_several_files_are_fetched_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=30)
    remotes = make(Remote(wait=lambda: (together.wait(), None)[1]))
    sources = [HttpFile(f"http://h/{number}") for number in range(3)]
    remotes.begin(sources)
    assert [remotes.fetch(source).name for source in sources] == ["0", "1", "2"]
    remotes.close()


def test_with_a_checksum_nothing_is_asked() -> None:
    remote = Remote()
    remotes = make(remote)
    source = HttpFile("http://h/f", SUM)
    remotes.look([source])
    assert remotes.identity(source) == f"http {SUM} f"
    assert remotes.fetch(source).identity == f"http {SUM} f"
    assert remote.calls == [("fetch", "http://h/f")]
    remotes.close()


def test_an_error_is_raised_to_whoever_asks() -> None:
    remotes = make(Remote())
    source = HttpFile("http://h/bad")
    remotes.begin([source])
    for _ in range(2):
        with pytest.raises(BuildError, match="is bad"):
            remotes.fetch(source)
    remotes.close()


def test_a_ref_stands_for_one_commit_in_the_whole_build() -> None:
    remote = Remote()
    remotes = make(remote)
    tree = GitTree("https://h/x.git", "main")
    known = remotes.identity(tree)
    found = remotes.fetch(tree)
    assert found.identity == known and found.path == "/trees/" + "1" * 40 and found.name == ""
    assert remote.trees.calls == ["resolve", "check out"]
    remotes.close()


def test_a_build_that_stops_does_not_wait() -> None:
    cancel = Cancellation()
    end = threading.Event()
    remote = Remote(wait=lambda: (cancel.stop(), end.wait(30), None)[2])
    remotes = make(remote)
    remotes.watch(cancel)
    with pytest.raises(Cancelled):
        remotes.fetch(HttpFile("http://h/f"))
    assert remote.aborted
    with pytest.raises(Cancelled):
        remote.check()
    end.set()
    remotes.close()


def test_a_long_transfer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE", 0.0)
    end = threading.Event()
    remotes = make(Remote(wait=lambda: (end.wait(30), None)[1]))
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if text == "5B of 10B":
            end.set()

    remotes.fetch(HttpFile("http://h/f"), tell)
    assert told[-1] == "5B of 10B"
    remotes.close()


PLAIN = GitTree("https://h/x.git", "main")
KEPT = GitTree("https://h/x.git", "main", keep_git_dir=True)
FOUND = Resolved("refs/heads/main", "1" * 40)


def test_the_identity_of_a_tree_has_all_that_changes_its_files() -> None:
    other = GitTree("https://other/y.git", "dev")
    assert git_identity(PLAIN, FOUND) == git_identity(other, Resolved("refs/heads/dev", "1" * 40))
    different = {
        git_identity(PLAIN, FOUND),
        git_identity(PLAIN, Resolved("refs/heads/main", "2" * 40)),
        git_identity(GitTree(PLAIN.remote, subdir="sub"), FOUND),
        git_identity(GitTree(PLAIN.remote, submodules=False), FOUND),
        git_identity(KEPT, FOUND),
        git_identity(KEPT, Resolved("refs/heads/dev", "1" * 40)),
        git_identity(GitTree("https://other/y.git", keep_git_dir=True), FOUND),
    }
    assert len(different) == 7


OTHERS = {
    HttpFile: {"url": "http://h/g", "checksum": "sha256:" + "b" * 64, "unpack": True},
    GitTree: {
        "remote": "https://h/y.git",
        "ref": "dev",
        "subdir": "other",
        "checksum": "0",
        "keep_git_dir": True,
        "submodules": False,
        "fetch_by_commit": True,
    },
}

REASONS = {
    "unpack": "the key of ADD has it beside the identity",
    "remote": "the commit says what the files are, unless the repository is kept",
    "ref": "as the remote",
    "checksum": "it is compared, and the commit counts",
    "fetch_by_commit": "it is how the commit is found",
}


@pytest.mark.parametrize("kind", [HttpFile, GitTree])
def test_every_field_of_a_source_is_in_its_identity_or_has_a_reason(kind: type) -> None:
    given: Any = HttpFile("http://h/f", SUM) if kind is HttpFile else GitTree("https://h/x.git", COMMIT)
    assert {field.name for field in fields(given)} == OTHERS[kind].keys()
    for name, value in OTHERS[kind].items():
        other = replace(given, **{name: value})
        if isinstance(given, HttpFile):
            same = pinned(other) == pinned(given)
        else:
            same = git_identity(other, FOUND) == git_identity(given, FOUND)
        assert same == ((name in REASONS and isinstance(given, GitTree)) or name == "unpack"), name


def test_an_annotated_tag_counts_by_its_commit_unless_it_is_kept() -> None:
    tag = Resolved("refs/tags/v1", "2" * 40, "1" * 40)
    assert git_identity(PLAIN, tag) == git_identity(PLAIN, FOUND)
    assert git_identity(KEPT, tag) != git_identity(KEPT, FOUND)


def test_what_a_text_pins_needs_no_server() -> None:
    assert pinned(HttpFile("http://h/f")) is None and pinned(PLAIN) is None
    assert pinned(HttpFile("http://h/f", SUM)) == f"http {SUM} f"
    whole = GitTree("https://h/x.git", COMMIT)
    assert pinned(whole) == git_identity(whole, Resolved(COMMIT, COMMIT))
    named = GitTree("https://h/x.git", "main", checksum=COMMIT, fetch_by_commit=True)
    assert pinned(named) == git_identity(named, Resolved("refs/heads/main", COMMIT))
    with pytest.raises(BuildError, match="is wanted"):
        pinned(GitTree("https://h/x.git", COMMIT, checksum="f"))
