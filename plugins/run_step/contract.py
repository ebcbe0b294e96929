"""The types between a frontend and an executor of RUN steps, whoever wrote the two.

A frontend calls an :class:`Executor` and reads :class:`Plan` and :class:`Result`, and nothing else of them.
:class:`run_step.LocalExecutor`, :class:`run_step.RunPlan` and :class:`run_step.RunResult` are the ones that come with
this package; an executor of another make may use its own, or these.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from .errors import HostError
from .inputs import Inputs
from .request import RunRequest

Output = Callable[[str, bytes], None]
"""Takes what a step prints, as it comes: ``("stdout"|"stderr", bytes)``."""


class Plan(Protocol):
    """What an executor has decided about a step."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the user should know before the step runs; a frontend shows each text once in a build."""

    @property
    def destinations(self) -> Sequence[str]:
        """The absolute paths in the step where something is mounted. A frontend looks there for what mounts of the RUN
        instruction lie in each other; an executor that takes no such mounts has none.
        """

    @property
    def network_mode(self) -> str:
        """``host`` where the step is in the builder's network; empty where the executor does not know."""


class Result(Protocol):
    """What became of a step."""

    @property
    def exit_status(self) -> int:
        """The status of the command as a shell reports it: 128 plus the number for a death by signal."""

    @property
    def cancelled(self) -> bool:
        """Whether the step was killed because it was asked to end, or took too long."""

    @property
    def timed_out(self) -> bool:
        """Whether it took longer than its time limit."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the user should know of how the step ran."""

    def describe(self) -> str:
        """Return how the step ended, in words for an error message: ``exit status 3``."""

    def usage(self) -> Mapping[str, int | str]:
        """Return what the step used, for events and records, as :meth:`run_step.RunResult.usage` does; what is not
        known is left out.
        """


class Executor(Protocol):
    """Plans and executes steps. Its methods are called by several threads at a time."""

    def plan(self, request: RunRequest) -> Plan:
        """Decide about a step and change nothing. Raises RequestError and HostError.

        It is also called for a root filesystem that is an empty directory, to find what no step can have.
        """

    def execute(
        self,
        plan: Plan,
        rootfs: str,
        *,
        output: Output | None = None,
        stdin: int | None = None,
        cancel: threading.Event | None = None,
        timeout: float | None = None,
        inputs: Inputs | None = None,
    ) -> Result:
        """Run a plan that :meth:`plan` gave in the root filesystem at ``rootfs``, and wait for it.

        ``stdin`` is a descriptor that the step may read, ``cancel`` and ``timeout`` (seconds) kill the step, ``inputs``
        is what the mounts of the RUN instruction stand for. A command that fails is a result. Raises RequestError, and
        HostError when the step could not be run.
        """

    def close(self) -> None:
        """End what the executor has started; the build is over."""


_KEYWORDS = ("output", "stdin", "cancel", "timeout", "inputs")


def check_executor(value: object) -> Executor:
    """Return ``value`` where it offers what an :class:`Executor` does. Raises HostError that says what it lacks."""
    name = type(value).__name__
    for method, positional, keywords in (
        ("plan", 1, ()),
        ("execute", 2, _KEYWORDS),
        ("close", 0, ()),
    ):
        found = getattr(value, method, None)
        if not callable(found):
            raise HostError(f"the executor {name} can't be used: it has no method {method}()")
        why = _misses(found, positional, keywords)
        if why:
            raise HostError(f"the executor {name} can't be used: {method}() {why}")
    return cast(Executor, value)


def _misses(method: Callable[..., object], positional: int, keywords: Sequence[str]) -> str:
    """Why ``method`` can't be called with so many arguments and these keywords; empty where it can."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return ""  # written in another language, and does not tell
    try:
        signature.bind(*range(positional), **dict.fromkeys(keywords))
    except TypeError as error:
        return f"can't be called as the contract says: {error}"
    return ""


def check_plan(value: object) -> Plan:
    """Return ``value`` where it offers what a :class:`Plan` does. Raises HostError that says what it lacks."""
    return cast(Plan, _check(value, "plan", ("warnings", "destinations", "network_mode")))


def check_result(value: object) -> Result:
    """Return ``value`` where it offers what a :class:`Result` does. Raises HostError that says what it lacks."""
    names = ("exit_status", "cancelled", "timed_out", "warnings", "describe", "usage")
    return cast(Result, _check(value, "result", names))


def _check(value: object, kind: str, names: Sequence[str]) -> object:
    for name in names:
        if not hasattr(value, name):
            raise HostError(
                f"the executor can't be used: its {kind}, of the type {type(value).__name__}, has no {name}"
            )
    return value
