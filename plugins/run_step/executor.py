"""Steps on this machine: planned with what it has, executed with one supervisor.

:class:`LocalExecutor` is the plugin behind the entry point ``buildfront.run_step = local``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .contract import Output, Plan
from .errors import RequestError
from .execution import execute
from .host import HostFacts
from .host_lookup import look_up
from .host_probe import probe
from .inputs import Inputs
from .pipeline import Stage, plan
from .planning import RunPlan
from .request import RunRequest
from .run_result import RunResult
from .supervisor_client import Supervisor


def plan_here(
    request: RunRequest, facts: HostFacts | None = None, *, stages: Sequence[Stage] | None = None
) -> RunPlan:
    """Plan a step for this machine: :func:`run_step.probe`, :func:`run_step.look_up` and :func:`run_step.plan` in one.

    ``facts`` are those that were probed before; probing once is enough for a build. Raises RequestError for what is
    wrong in the request, HostError for what this machine can't do.
    """
    if facts is None:
        facts = probe(runtimes=_needs_runtimes(request))
    return plan(request, look_up(request, facts), stages=stages)


def _needs_runtimes(request: RunRequest) -> bool:
    """Whether the plan depends on which OCI runtimes work here; to try them is what takes long in probing."""
    return request.isolation in ("", "auto") or (request.isolation == "oci" and not request.runtime)


class LocalExecutor:
    """Runs steps on this machine.

    One object serves one build and may be used by several threads. ``host`` replaces the probed facts, and then nothing
    is looked up either. ``work_dir`` is where private directories of the steps are made.
    """

    def __init__(self, host: HostFacts | None = None, work_dir: str | None = None) -> None:
        self._host = host
        self._recorded = self._runtimes_known = host is not None
        self._lock = threading.Lock()
        self.work_dir = work_dir
        self.supervisor = Supervisor()

    def host(self, *, runtimes: bool) -> HostFacts:
        """Return the facts, probed once; runtimes are tried only when an isolation needs to know of them."""
        with self._lock:
            if self._host is None or (runtimes and not self._runtimes_known):
                self._host = probe(runtimes=runtimes, work_dir=self.work_dir)
                self._runtimes_known = runtimes
            return self._host

    def plan(self, request: RunRequest) -> RunPlan:
        """Plan a step as :func:`plan_here` does, the machine being probed once; with recorded facts, by these only."""
        facts = self.host(runtimes=_needs_runtimes(request))
        return plan(request, facts) if self._recorded else plan_here(request, facts)

    def execute(
        self,
        plan: Plan,
        rootfs: str,
        *,
        output: Output | None = None,
        stdin: int | None = None,
        quiet: bool = False,
        cancel: threading.Event | None = None,
        timeout: float | None = None,
        runtime_timeout: float | None = None,
        inputs: Inputs | None = None,
    ) -> RunResult:
        """Run a step as :func:`run_step.execute` does. Raises RequestError for the plan of another executor too."""
        if not isinstance(plan, RunPlan):
            raise RequestError(
                f"a RunPlan is wanted, not {type(plan).__name__}: each executor runs its own plans"
            )
        return execute(
            plan,
            rootfs,
            output=output,
            stdin=stdin,
            quiet=quiet,
            supervisor=self.supervisor,
            work_dir=self.work_dir,
            cancel=cancel,
            timeout=timeout,
            runtime_timeout=runtime_timeout,
            inputs=inputs,
        )

    def close(self) -> None:
        """End the supervisor. The object can't be used afterwards."""
        self.supervisor.close()


def run(
    request: RunRequest,
    *,
    output: Output | None = None,
    stdin: int | None = None,
    timeout: float | None = None,
    inputs: Inputs | None = None,
) -> RunResult:
    """Plan and execute one step on this machine. Raises RequestError and HostError."""
    executor = LocalExecutor()
    try:
        plan = executor.plan(request)
        return executor.execute(
            plan, request.rootfs, output=output, stdin=stdin, timeout=timeout, inputs=inputs
        )
    finally:
        executor.close()
