"""The executor of RUN steps: a plugin, found by its name."""

from __future__ import annotations

import threading
from collections.abc import Callable

import run_step

from ..errors import BuildError

GROUP = "buildfront.run_step"
"""The entry point group of executors."""


def load_executor(name: str, work_dir: str) -> run_step.Executor:
    """Return the executor registered as ``name`` in the entry point group ``buildfront.run_step``.

    Raise BuildError that names those that exist, HostError for one that does not keep the contract.
    """
    if name == "local":
        # Our own needs no search through all installed distributions.
        return run_step.LocalExecutor(work_dir=work_dir)
    from importlib.metadata import entry_points  # loads much, and is needed by few

    found = {item.name: item for item in entry_points(group=GROUP)}
    if name not in found:
        raise BuildError(
            f"no RUN executor is called {name!r}", hint=f"known are {', '.join(sorted(found)) or 'local'}"
        )
    return run_step.check_executor(found[name].load()(work_dir=work_dir))


class LazyExecutor:
    """The executor of one build, loaded when the first RUN needs it. Its plans and results are checked."""

    def __init__(self, name: str, work_dir: Callable[[], str]) -> None:
        self._name = name
        self._work_dir = work_dir
        self._lock = threading.Lock()
        self._executor: run_step.Executor | None = None

    def load(self) -> run_step.Executor:
        """Return the executor. Raise BuildError for an unknown name."""
        with self._lock:
            if self._executor is None:
                self._executor = load_executor(self._name, self._work_dir())
            return self._executor

    def plan(self, request: run_step.RunRequest) -> run_step.Plan:
        """Plan a step. Raise RequestError or HostError."""
        return run_step.check_plan(self.load().plan(request))

    def execute(
        self,
        plan: run_step.Plan,
        rootfs: str,
        *,
        output: run_step.Output | None = None,
        stdin: int | None = None,
        cancel: threading.Event | None = None,
        timeout: float | None = None,
        inputs: run_step.Inputs | None = None,
    ) -> run_step.Result:
        """Carry a plan out. Raise RequestError or HostError."""
        result = self.load().execute(
            plan, rootfs, output=output, stdin=stdin, cancel=cancel, timeout=timeout, inputs=inputs
        )
        return run_step.check_result(result)

    def close(self) -> None:
        """Close the executor where it was loaded."""
        if self._executor is not None:
            self._executor.close()
