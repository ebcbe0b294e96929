"""Which results of the catalogue are used, and what the operations read without running anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildfront.context.directory import DirectoryContext
from buildfront.dockerfile.ignore import Ignore
from buildfront.engine import cache_key
from buildfront.engine.cache_lookup import key_for, lookup, recall
from buildfront.engine.content import ContentDigests
from buildfront.engine.ops.table import OPERATIONS, operation_of
from buildfront.engine.result import Result
from buildfront.engine.state import State
from buildfront.errors import BuildError, SourceRange
from buildfront.graph import CopyOp, Origin, RunOp, SourceOp, WorkdirOp
from buildfront.graph.step_graph import Mount, Operation, Step, StepGraph
from buildfront.image.base_image import BaseImage
from buildfront.options import EngineOptions
from buildfront.store.image_store import Store

RUN = RunOp(("true",), (), (), (), "", "/", "", ())
KEY = "k" * 64

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="snapshots need root")


def step(op: Operation, number: int = 1, parent: int | None = 0, stage: int = 0) -> Step:
    inputs = () if parent is None else (parent,)
    return Step(number, stage, "", SourceRange("Dockerfile", 1, 1), op, parent, inputs)


class Place:
    """A store with a build of it, and snapshots that earlier builds have left."""

    def __init__(self, path: Path) -> None:
        self.store = Store(str(path / "store"))
        self.context = path / "context"
        self.context.mkdir()
        (self.context / "a").write_text("1")

    def state(self, *ops: Operation, **options: Any) -> State:
        """A build of these steps, each upon the one before it; the first is FROM scratch, and its result is known."""
        steps = (step(SourceOp("scratch"), 0, None), *(step(op, n, n - 1) for n, op in enumerate(ops, 1)))
        contexts = {"": DirectoryContext(str(self.context), Ignore(()))}
        graph = StepGraph((), steps, 0, "linux/amd64")
        digests = ContentDigests(self.store, contexts)
        state = State(self.store, graph, {}, contexts, EngineOptions(**options), lambda event: None, digests)
        state.results[0] = Result("base", None)
        return state

    def snapshot(self, parent: int | None = None) -> int:
        with self.store.session() as session:
            return session.commit(session.prepare(parent), parent)

    def keep(self, key: str, snapshot: int | None, *, changed: bool = True) -> None:
        self.store.catalogue.set_step(key, "slot", snapshot, changed, "{}", 0, 0, "{}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("BUILDFRONT_SNAPSHOTS", "copy")
    made = Place(tmp_path)
    with made.store:
        yield made


def test_every_operation_of_the_graph_is_in_the_table():
    assert set(OPERATIONS) == set(Operation.__args__)


# recall


def test_a_result_is_recalled_by_its_key(place):
    number = place.snapshot()
    place.keep(KEY, number)
    state = place.state(RUN)
    assert recall(state, state.graph.steps[1], KEY) == Result(KEY, number, cached=True)
    assert recall(state, state.graph.steps[1], "other") is None


def test_nothing_is_recalled_without_the_cache(place):
    place.keep(KEY, place.snapshot())
    state = place.state(RUN, no_cache=True)
    assert recall(state, state.graph.steps[1], KEY) is None


def test_nothing_is_recalled_for_a_stage_without_the_cache(place):
    place.keep(KEY, place.snapshot())
    state = place.state(RUN)
    state.no_cache_stages = frozenset((3,))
    assert recall(state, step(RUN, stage=3), KEY) is None
    assert recall(state, step(RUN, stage=2), KEY) is not None


def test_a_step_that_changed_nothing_has_its_parents_result(place):
    number = place.snapshot()
    place.keep(KEY, number, changed=False)
    state = place.state(WorkdirOp("/"))
    state.results[0] = Result("base", number)
    assert recall(state, state.graph.steps[1], KEY) == Result(KEY, number, changed=False, cached=True)


def test_a_step_that_changed_nothing_may_change_other_files(place):
    place.keep(KEY, place.snapshot(), changed=False)
    state = place.state(WorkdirOp("/"))
    state.results[0] = Result("base", place.snapshot())
    assert recall(state, state.graph.steps[1], KEY) is None


@pytest.mark.parametrize("lost", ["files", "row"])
def test_a_result_whose_snapshot_is_lost_is_forgotten(place, lost):
    number = place.snapshot()
    place.keep(KEY, number)
    if lost == "files":
        shutil.rmtree(place.store.snapshot_path(number))
    else:
        place.store.catalogue.drop_snapshot(number)
    state = place.state(RUN)
    assert recall(state, state.graph.steps[1], KEY) is None
    assert place.store.catalogue.step(KEY) is None


def test_a_result_upon_an_earlier_run_of_its_parent_is_not_used(place):
    old, new = place.snapshot(), place.snapshot()
    place.keep(KEY, place.snapshot(old))
    state = place.state(RUN)
    state.results[0] = Result("base", new)
    assert recall(state, state.graph.steps[1], KEY) is None
    state.results[0] = Result("base", old)
    assert recall(state, state.graph.steps[1], KEY) is not None


def test_a_result_upon_an_image_whose_files_are_lost_is_forgotten(place):
    below = place.snapshot()
    place.keep(KEY, place.snapshot(below))
    shutil.rmtree(place.store.snapshot_path(below))
    state = place.state(RUN)  # the image is not unpacked: its result has no snapshot
    assert recall(state, state.graph.steps[1], KEY) is None
    assert place.store.catalogue.step(KEY) is None


def test_a_result_whose_layer_is_missing_is_made_again(place):
    number = place.snapshot()
    place.keep(KEY, number)
    place.store.catalogue.set_layer(number, "sha256:" + "0" * 64, "sha256:" + "1" * 64, 5, "x")
    state = place.state(RUN)
    assert recall(state, state.graph.steps[1], KEY) is None
    assert place.store.catalogue.step(KEY) is not None


# keys and reads


def test_the_key_of_a_step_follows_from_its_parents(place):
    state = place.state(RUN)
    operation = operation_of(state.graph.steps[1])
    first = key_for(state, operation, ())
    state.results[0] = Result("another", None)
    second = key_for(state, operation, ())
    assert first.digest != second.digest
    assert {name for name in first.parts if first.parts[name] != second.parts[name]} == {"parent"}


def test_an_image_is_known_without_work(place):
    state = place.state()
    base = BaseImage("x", "sha256:1", "sha256:2", {}, ())
    found = lookup(state, operation_of(step(SourceOp("x"), 0, None)))
    assert found is not None and found.base is None
    state.bases = {"x": base}
    known = lookup(state, operation_of(step(SourceOp("x"), 0, None)))
    assert known is not None and known.base is base and known.key != found.key
    assert not known.changed and known.cached


def test_a_copy_of_a_context_reads_its_files(place):
    op = CopyOp(("a",), "/", Origin("context"))
    before = operation_of(step(op)).reads(place.state())
    (place.context / "a").write_text("2")
    after = operation_of(step(op)).reads(place.state())
    assert before is not None and after is not None and before != after


def test_a_copy_of_a_step_is_unknown_until_its_files_have_been_read(place):
    op = CopyOp(("a",), "/", Origin("step", step=1))
    state = place.state(RUN, op)
    state.results[1] = Result("run", 1)
    operation = operation_of(state.graph.steps[2])
    assert operation.reads(state) is None and lookup(state, operation) is None
    selector = cache_key.selector(op.sources, required=False)
    place.store.catalogue.set_content("run", 1, selector, "sha256:x")
    assert operation.reads(state) == ("sha256:x",)


def test_a_run_reads_what_it_mounts(place):
    mounts = (Mount("bind", "/x", origin=0), Mount("tmpfs", "/t"), Mount("bind", "/y", origin=1, source="/f"))
    state = place.state(RUN, replace(RUN, mounts=mounts))
    state.results[1] = Result("run", 1)
    operation = operation_of(state.graph.steps[2])
    assert operation.reads(state) is None, "a part of a step's result"
    whole = replace(RUN, mounts=(*mounts[:2], Mount("bind", "/y", origin=1)))
    assert operation_of(step(whole, 2, 1)).reads(state) == ("step:base", "", "step:run:1")


def test_a_required_secret_is_missed_before_anything_runs(place):
    op = replace(RUN, mounts=(Mount("secret", "/s", id="s", required=True),))
    state = place.state(op)
    with pytest.raises(BuildError, match="the secret 's' is required"):
        operation_of(state.graph.steps[1]).check(state)
    for other in (RUN, WorkdirOp("/"), SourceOp("x"), CopyOp(("a",), "/", Origin("context"))):
        operation_of(step(other)).check(state)
