"""The scheduler, with operations that only note what happens: order, failure, cancellation, steps at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from buildfront.engine.active_build import ActiveBuild
from buildfront.engine.cancellation import Cancelled
from buildfront.engine.content import ContentDigests
from buildfront.engine.events import Event
from buildfront.engine.operation import Operation, Reads
from buildfront.engine.result import Result
from buildfront.engine.scheduler import Scheduler
from buildfront.engine.state import State
from buildfront.errors import BuildError, SourceRange
from buildfront.graph.step_graph import Step, StepGraph, WorkdirOp
from buildfront.options import EngineOptions
from buildfront.store.image_store import Store
from run_step import HostError, RequestError

Act = Callable[[], object]


class Fake:
    """An operation whose work is a function. It reads nothing; ``known`` is the result that the cache has."""

    def __init__(self, step: Step, act: Act, known: Result | None = None) -> None:
        self.step = step
        self._act = act
        self._known = known

    def check(self, state: State) -> None:
        return None

    def reads(self, state: State) -> Reads | None:
        return ()

    def key_parts(self, reads: Reads, run_options: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def recall(self, state: State, key: str) -> Result | None:
        return self._known

    def perform(self, build: ActiveBuild) -> Result:
        build.report.start(self.step)
        self._act()
        build.report.done(self.step)
        return Result(str(self.step.id), None)


class Bench:
    """A graph of fake operations, and the events of its build."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inputs: dict[int, tuple[int, ...]] = {}
        self._acts: dict[int, Act] = {}
        self.known: dict[int, Result] = {}
        self.events: list[Event] = []
        self.state: State

    def step(self, number: int, *inputs: int, act: Act = lambda: None) -> None:
        self._inputs[number] = inputs
        self._acts[number] = act

    def _operation(self, step: Step) -> Operation:
        return Fake(step, self._acts[step.id], self.known.get(step.id))

    def prepare(self, *, done: tuple[int, ...] = ()) -> State:
        steps = tuple(
            Step(
                number, 0, f"step {number}", SourceRange("Dockerfile", number, number), WorkdirOp("/"), *more
            )
            for number, inputs in self._inputs.items()
            for more in [(inputs[0] if inputs else None, inputs)]
        )
        graph = StepGraph((), steps, 0, "linux/amd64")
        digests = ContentDigests(self._store, {})
        self.state = State(self._store, graph, {}, {}, EngineOptions(), self.events.append, digests)
        self.state.results |= {number: Result(str(number), None) for number in done}
        return self.state

    def run(self, jobs: int = 4) -> None:
        with self._store.session() as session, ActiveBuild(self.state, session) as build:
            Scheduler(build, self._operation).run(jobs)

    def told(self, kind: str) -> list[int | None]:
        return [event.step for event in self.events if event.kind == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store(str(tmp_path / "store")) as store:
        yield Bench(store)


def meet(barrier: threading.Barrier) -> Act:
    """Return work that ends only when as many steps as the barrier has parties do it at the same time."""
    return lambda: barrier.wait(30)


def fail(error: BaseException) -> Act:
    def act() -> None:
        raise error

    return act


def test_a_step_begins_when_its_inputs_are_done(bench: Bench) -> None:
    bench.step(0)
    bench.step(1, 0)
    bench.step(2, 1)
    bench.step(3, 2, 0)
    bench.prepare()
    bench.run()
    assert [(event.kind, event.step) for event in bench.events] == [
        (kind, number) for number in range(4) for kind in ("start", "done")
    ]
    assert set(bench.state.results) == {0, 1, 2, 3}


def test_one_job_takes_steps_in_the_order_of_the_dockerfile(bench: Bench) -> None:
    for number in range(6):
        bench.step(number)
    bench.prepare()
    bench.run(jobs=1)
    assert bench.told("start") == list(range(6))


def test_independent_steps_run_at_the_same_time(bench: Bench) -> None:
    barrier = threading.Barrier(3)
    bench.step(0)
    for number in (1, 2, 3):
        bench.step(number, 0, act=meet(barrier))
    bench.step(4, 1, 2, 3)
    bench.prepare()
    bench.run(jobs=3)
    assert bench.told("done")[0] == 0 and bench.told("done")[-1] == 4


def test_no_more_than_the_jobs_run_at_the_same_time(bench: Bench) -> None:
    lock, running, most = threading.Lock(), [0], [0]
    pair = threading.Barrier(2)

    def act() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        pair.wait(30)
        with lock:
            running[0] -= 1
        pair.wait(30)

    for number in range(6):
        bench.step(number, act=act)
    bench.prepare()
    bench.run(jobs=2)
    assert most == [2]


def test_results_that_are_known_are_not_performed(bench: Bench) -> None:
    bench.step(0, act=fail(AssertionError("performed")))
    bench.step(1, 0)
    bench.prepare(done=(0,))
    bench.run()
    assert bench.told("start") == [1]


def test_a_result_of_the_cache_is_told_as_cached(bench: Bench) -> None:
    bench.step(0)
    bench.step(1, 0, act=fail(AssertionError("performed")))
    bench.known[1] = Result("known", 7, cached=True)
    bench.prepare()
    bench.run()
    assert bench.told("cached") == [1] and bench.told("start") == [0]
    assert bench.state.results[1].snapshot == 7


def test_a_failure_stops_what_runs_and_begins_nothing_else(bench: Bench) -> None:
    running = threading.Event()

    def wait() -> None:
        running.set()
        assert bench.state.cancel.event.wait(30)
        bench.state.cancel.check()

    def break_down() -> None:
        assert running.wait(30)
        raise BuildError("broken")

    bench.step(0, act=wait)
    bench.step(1, act=break_down)
    bench.step(2, 1)
    bench.step(3, 0)
    bench.prepare()
    with pytest.raises(BuildError, match="broken") as caught:
        bench.run(jobs=2)
    assert caught.value.where == SourceRange("Dockerfile", 1, 1)
    assert bench.told("failed") == [1]
    assert not {2, 3} & set(bench.told("start"))
    assert bench.state.results == {}
    assert bench.state.cancel.failed


def test_steps_that_are_done_keep_their_results_after_a_failure(bench: Bench) -> None:
    bench.step(0)
    bench.step(1, 0, act=fail(BuildError("broken")))
    bench.prepare()
    with pytest.raises(BuildError, match="broken"):
        bench.run()
    assert set(bench.state.results) == {0}


def test_the_failure_is_raised_and_not_the_stop_that_it_causes(bench: Bench) -> None:
    """Also where the step that is stopped ends before the one that failed."""
    barrier = threading.Barrier(2)

    def stopped() -> None:
        barrier.wait(30)
        raise Cancelled

    def broken() -> None:
        barrier.wait(30)
        raise BuildError("broken")

    bench.step(0, act=stopped)
    bench.step(1, act=broken)
    bench.prepare()
    with pytest.raises(BuildError, match="broken"):
        bench.run(jobs=2)


def test_a_cancelled_build_ends_without_a_failed_step(bench: Bench) -> None:
    def cancel() -> None:
        bench.state.cancel.stop()
        bench.state.cancel.check()

    bench.step(0, act=cancel)
    bench.step(1, 0)
    bench.prepare()
    with pytest.raises(Cancelled) as caught:
        bench.run()
    assert caught.value.status == 130
    assert bench.told("failed") == [] and bench.told("start") == [0]
    assert not bench.state.cancel.failed


def test_a_build_that_is_cancelled_before_it_begins_performs_nothing(bench: Bench) -> None:
    bench.step(0)
    bench.prepare().cancel.stop()
    with pytest.raises(Cancelled):
        bench.run()
    assert bench.events == []


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (RequestError("no such user"), "no such user"),
        (HostError("no such device"), "no such device"),
        (RecursionError(), "too many directories"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_become_build_errors_with_a_place(bench: Bench, error: Exception, what: str) -> None:
    bench.step(0, act=fail(error))
    bench.prepare()
    with pytest.raises(BuildError, match=what) as caught:
        bench.run()
    assert caught.value.where == SourceRange("Dockerfile", 0, 0)
    assert bench.told("failed") == [0]


def test_a_mistake_of_the_program_is_raised_as_it_is(bench: Bench) -> None:
    bench.step(0, act=fail(ValueError("a mistake")))
    bench.step(1, 0)
    bench.prepare()
    with pytest.raises(ValueError, match="a mistake"):
        bench.run()
    assert bench.told("start") == [0]
