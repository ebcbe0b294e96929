"""The layer writer: what is recorded, when, and what is dropped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildfront.engine import layers
from buildfront.engine.active_build import ActiveBuild
from buildfront.engine.cache_key import Key, make_key
from buildfront.engine.cancellation import Cancelled
from buildfront.engine.content import ContentDigests
from buildfront.engine.events import Event
from buildfront.engine.result import Result
from buildfront.engine.state import State
from buildfront.errors import BuildError, SourceRange
from buildfront.graph import SourceOp, WorkdirOp
from buildfront.graph.step_graph import Step, StepGraph
from buildfront.options import EngineOptions
from buildfront.store.image_store import Store
from run_step import Root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="snapshots need root")


def step(number: int) -> Step:
    parent = number - 1 if number else None
    op = WorkdirOp("/x") if number else SourceOp("scratch")
    inputs = () if parent is None else (parent,)
    return Step(number, 0, f"step {number}", SourceRange("Dockerfile", 1, 1), op, parent, inputs)


def key(number: int) -> Key:
    return make_key({"number": number})


class Place:
    def __init__(self, store: Store, compression: str) -> None:
        self.store = store
        self.events: list[Event] = []
        graph = StepGraph((), tuple(step(number) for number in range(4)), 0, "linux/amd64")
        options = EngineOptions(compression=compression)
        digests = ContentDigests(store, {})
        self.state = State(store, graph, {}, {}, options, self.events.append, digests)
        self.state.results[0] = Result("base", None)

    def change(self, build: ActiveBuild, number: int, *, layer: bool = True) -> int:
        """Perform a step that makes one directory, and return its snapshot."""
        build.report.begin(step(number))

        def act(root: Root) -> None:
            root.make_dirs(f"/made-{number}", 0o755, 0, 0)

        result = build.change(step(number), key(number), act, layer=layer)
        self.state.results[number] = result
        return result.snapshot or 0


@pytest.fixture(params=["gzip", "uncompressed"])
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Place]:
    monkeypatch.setenv("BUILDFRONT_SNAPSHOTS", "copy")
    with Store(str(tmp_path / "store")) as store:
        yield Place(store, request.param)


def test_a_step_is_cached_when_its_layer_is_there(place):
    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        number = place.change(build, 1)
        build.layers.wait()
        row = place.store.catalogue.step(key(1).digest)
        assert row is not None and row.snapshot == number and row.changed
    snapshot = place.store.catalogue.snapshot(number)
    assert snapshot is not None and snapshot.digest is not None
    data = Path(place.store.blob_path(snapshot.digest)).read_bytes()
    assert "sha256:" + hashlib.sha256(data).hexdigest() == snapshot.digest
    if place.state.options.compression == "uncompressed":
        assert snapshot.diff_id == snapshot.digest
    assert [event.kind for event in place.events] == ["done"]


def test_a_step_for_a_mount_has_no_layer(place):
    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        number = place.change(build, 1, layer=False)
    snapshot = place.store.catalogue.snapshot(number)
    assert snapshot is not None and snapshot.digest is None
    assert place.store.catalogue.step(key(1).digest) is not None


def test_a_step_that_changes_nothing_has_an_empty_layer(place):
    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        build.report.begin(step(1))
        result = build.change(step(1), key(1), lambda root: None)
        build.layers.wait()
    row = place.store.catalogue.step(key(1).digest)
    assert row is not None and row.changed and row.snapshot == result.snapshot
    assert result == Result(key(1).digest, result.snapshot) and result.snapshot is not None


def test_layers_are_written_to_the_end_when_another_step_fails(place):
    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        number = place.change(build, 1)
        place.state.cancel.fail()
    assert place.store.catalogue.snapshot(number) is not None
    assert place.store.catalogue.step(key(1).digest) is not None


def test_a_cancelled_build_drops_the_snapshots_that_have_no_layer(place, monkeypatch):
    original = layers.write_tar

    def write_tar(*args: Any) -> None:
        place.state.cancel.stop()
        original(*args)

    monkeypatch.setattr(layers, "write_tar", write_tar)
    with pytest.raises(Cancelled):  # noqa: SIM117
        with place.store.session() as session, ActiveBuild(place.state, session) as build:
            first = place.change(build, 1)
            build.layers.wait()
    assert place.store.catalogue.snapshot(first) is None
    assert not place.store.has_snapshot(first)
    assert place.store.catalogue.step(key(1).digest) is None


def test_a_snapshot_upon_one_that_is_dropped_is_dropped_too(place, monkeypatch):
    """Its own layer may be complete: it would be a result that lies on nothing."""
    original, failed = layers.write_tar, list[int]()

    def write_tar(*args: Any) -> None:
        if not failed:
            failed.append(1)
            raise OSError(28, "No space left on device")
        original(*args)

    monkeypatch.setattr(layers, "write_tar", write_tar)
    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        first = place.change(build, 1)
        with pytest.raises(Exception, match="No space left"):
            build.layers.wait()
        second = place.change(build, 2)
    for number in (first, second):
        assert place.store.catalogue.snapshot(number) is None and not place.store.has_snapshot(number)


def test_what_a_step_raises_leaves_nothing(place):
    def act(root: Root) -> None:
        raise ValueError("broken")

    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        build.report.begin(step(1))
        with pytest.raises(ValueError, match="broken"):
            build.change(step(1), key(1), act)
        assert not [name for name in os.listdir(session.path) if name.startswith("active")]
    assert place.store.catalogue.step(key(1).digest) is None
    assert place.events == []


def linked(place: Place, build: ActiveBuild, number: int, *, calls: list[int]) -> Result:
    """A step whose layer does not depend on the parent."""

    def act(root: Root) -> None:
        calls.append(number)
        assert os.listdir(root.path) == [], "it is an empty root filesystem"
        root.make_dirs("/new/deep", 0o751, 0, 0)

    build.report.begin(step(number))
    result = build.add(step(number), key(number), make_key({"content": "x"}), act)
    place.state.results[number] = result
    return result


def test_a_layer_that_does_not_depend_on_its_parent_is_made_once(place):
    calls: list[int] = []
    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        place.change(build, 1)
        linked(place, build, 2, calls=calls)
        place.change(build, 3)
        other = linked(place, build, 4, calls=calls)
        build.layers.wait()
        catalogue = place.store.catalogue
        rows = [catalogue.snapshot(place.state.results[number].snapshot) for number in (2, 4)]
        assert calls == [2]
        assert rows[0].layer == rows[1].layer and rows[0].id != rows[1].id
        assert rows[1].parent == place.state.results[3].snapshot
        with session.view(other.snapshot) as view:
            assert sorted(os.listdir(view.path)) == ["made-1", "made-3", "new"]
        Path(place.store.blob_path(rows[0].digest)).write_bytes(b"damaged")
        linked(place, build, 5, calls=calls)
        assert calls == [2, 5], "a layer that is not whole is made again"


def test_a_step_without_the_cache_makes_its_layer_again(place):
    place.state.options = replace(place.state.options, no_cache=True)
    calls: list[int] = []
    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        place.change(build, 1)
        linked(place, build, 2, calls=calls)
        linked(place, build, 3, calls=calls)
    assert calls == [2, 3]


def test_nothing_is_left_of_a_layer_that_failed(place):
    def fail(root: Root) -> None:
        root.make_dirs("/half", 0o755, 0, 0)
        raise BuildError("no")

    with place.store.session() as session, ActiveBuild(place.state, session) as build:
        number = place.change(build, 1)
        build.layers.wait()
        with pytest.raises(BuildError, match="no"):
            build.add(step(2), key(2), make_key({"content": "x"}), fail)
    assert os.listdir(os.path.join(place.store.root, "snapshots")) == [str(number)]
    assert place.store.catalogue.step(key(2).digest) is None and os.listdir(place.store.tmp) == []
