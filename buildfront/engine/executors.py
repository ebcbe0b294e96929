"""The executor of RUN steps: a plugin, found by its name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import run_step

from ..errors import BuildError

if TYPE_CHECKING:
    from run_step import Inputs, RunRequest

GROUP = "buildfront.run_step"
"""The entry point group of executors."""


class NetworkPlan(Protocol):
    """The network of a plan. ``mode`` is ``host`` for the builder's own."""

    @property
    def mode(self) -> str:
        """How the step is connected."""


class Plan(Protocol):
    """The plan for one request. ``spec`` is an OCI runtime configuration."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The configuration."""

    @property
    def network(self) -> NetworkPlan:
        """The network."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user."""


class RunResult(Protocol):
    """The outcome of one run."""

    @property
    def exit_status(self) -> int:
        """The exit status, as a shell reports it."""

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped."""

    @property
    def timed_out(self) -> bool:
        """Whether it was stopped because of its time limit."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user."""

    def describe(self) -> str:
        """Return how it ended, as text."""

    def usage(self) -> Mapping[str, Any]:
        """Return what it used, as JSON values."""


class Executor(Protocol):
    """Plans and runs commands. Methods may be called by several threads."""

    def plan(self, request: RunRequest) -> Plan:
        """Decide everything about one run. Raise RequestError or HostError."""

    def execute(
        self,
        plan: Any,
        rootfs: str,
        *,
        output: Callable[[str, bytes], None] | None = None,
        stdin: int | None = None,
        cancel: threading.Event | None = None,
        timeout: float | None = None,
        inputs: Inputs | None = None,
    ) -> RunResult:
        """Carry out a plan that :meth:`plan` returned."""

    def close(self) -> None:
        """Release its resources. The executor is of no use afterwards."""


def load_executor(name: str, work_dir: str) -> Executor:
    """Return the executor registered as ``name`` in the entry point group ``buildfront.run_step``.

    Raise BuildError that names those that exist.
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
    executor: Executor = found[name].load()(work_dir=work_dir)
    return executor


class LazyExecutor:
    """The executor of one build, loaded when the first RUN needs it."""

    def __init__(self, name: str, work_dir: Callable[[], str]) -> None:
        self._name = name
        self._work_dir = work_dir
        self._lock = threading.Lock()
        self._executor: Executor | None = None

    def load(self) -> Executor:
        """Return the executor. Raise BuildError for an unknown name."""
        with self._lock:
            if self._executor is None:
                self._executor = load_executor(self._name, self._work_dir())
            return self._executor

    def close(self) -> None:
        """Close the executor where it was loaded."""
        if self._executor is not None:
            self._executor.close()
