"""The scheduler: performs the operations of a graph, independent steps at the same time."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable

from run_step import HostError, RequestError

from ..errors import BuildError
from ..graph.step_graph import Step
from .active_build import ActiveBuild
from .cache_lookup import lookup
from .cancellation import Cancelled
from .operation import Operation
from .result import Result


class Scheduler:
    """Performs the steps that have no result yet. ``operation`` returns the operation of a step."""

    def __init__(self, build: ActiveBuild, operation: Callable[[Step], Operation]) -> None:
        self._build = build
        self._state = build.state
        self._operation = operation

    def run(self, jobs: int) -> None:
        """Perform them, at most ``jobs`` at the same time, and add their results to the state.

        A step begins when its inputs have results; of those that can begin, the first of the Dockerfile is first.
        When one fails, the steps that run are stopped and its error is raised; the results of the others are kept.
        """
        results = self._state.results
        steps = {step.id: step for step in self._state.graph.steps if step.id not in results}
        missing = {step.id: set(step.inputs) - results.keys() for step in steps.values()}
        followers: dict[int, list[int]] = {}
        for number, inputs in missing.items():
            for before in inputs:
                followers.setdefault(before, []).append(number)
        ready = [number for number, inputs in missing.items() if not inputs]
        running: dict[concurrent.futures.Future[Result], Step] = {}
        failure: BaseException | None = None
        with concurrent.futures.ThreadPoolExecutor(jobs, "buildfront-step") as pool:
            while (ready and failure is None) or running:
                if failure is None:
                    for number in sorted(ready):
                        running[pool.submit(self._step, steps[number])] = steps[number]
                    ready.clear()
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    step = running.pop(future)
                    error = future.exception()
                    if error is None:
                        results[step.id] = future.result()
                        for number in followers.get(step.id, ()):
                            missing[number].discard(step.id)
                            if not missing[number]:
                                ready.append(number)
                    elif failure is None or isinstance(failure, Cancelled):
                        failure = error
                        self._state.cancel.fail()
        if failure is not None:
            raise failure

    def _step(self, step: Step) -> Result:
        report = self._build.report
        try:
            self._build.check()
            report.begin(step)
            operation = self._operation(step)
            result = lookup(self._state, operation)
            if result is None:
                result = operation.perform(self._build)
        except (BuildError, RequestError, HostError, RecursionError, OSError) as error:
            failure = self._as_build_error(error)
            if not isinstance(failure, Cancelled):
                report.failed(step, failure.what)
            raise failure.at(step.source) from (None if failure is error else error)
        if result.cached:
            report.cached(step)
        return result

    def _as_build_error(self, error: Exception) -> BuildError:
        if isinstance(error, BuildError):
            return error
        if isinstance(error, OSError):
            return self._build.session.store.told(error)
        if isinstance(error, RecursionError):
            return BuildError("the step has too many directories in each other")
        return BuildError(str(error))
