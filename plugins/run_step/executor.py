"""The plugin behind the entry point ``buildfront.run_step = local``: plan and execute with one supervisor."""

from __future__ import annotations

import threading
from dataclasses import replace

from .defaults import decide
from .execution import Output, execute
from .host import HostFacts
from .host_lookup import look_up, names_a_network
from .host_probe import probe
from .inputs import Inputs
from .pipeline import plan
from .planning import RunPlan
from .request import RunRequest
from .run_result import RunResult
from .supervisor_client import Supervisor


class LocalExecutor:
    """Runs steps on this machine.

    One object serves one build and may be used by several threads. ``host`` replaces the probed facts.
    """

    def __init__(self, host: HostFacts | None = None, work_dir: str | None = None) -> None:
        self._host = host
        self._recorded = self._runtimes_known = host is not None
        self._lock = threading.Lock()
        self.work_dir = work_dir
        self.supervisor = Supervisor()

    def host(self, *, runtimes: bool) -> HostFacts:
        """The facts, probed once; runtimes are tried only when an isolation needs to know of them."""
        with self._lock:
            if self._host is None or (runtimes and not self._runtimes_known):
                self._host = probe(runtimes=runtimes, work_dir=self.work_dir)
                self._runtimes_known = runtimes
            return self._host

    def plan(self, request: RunRequest) -> RunPlan:
        """See :func:`run_step.plan`; ``auto`` and the empty isolation are resolved first."""
        auto = request.isolation in ("", "auto")
        facts = self.host(runtimes=auto or (request.isolation == "oci" and not request.runtime))
        notes: tuple[str, ...] = ()
        if auto:
            choice = decide(facts).isolation
            notes = (choice.note,) if choice.note else ()
            request = replace(request, isolation=choice.taken or "chroot")
        asked = (
            request.devices
            or request.hooks_dirs
            or request.volumes
            or request.mounts
            or names_a_network(request)
        )
        if not self._recorded and (asked or facts.default_mounts):
            facts = look_up(request, facts)
        made = plan(request, facts)
        return replace(made, warnings=(*notes, *made.warnings)) if notes else made

    def execute(
        self,
        plan: RunPlan,
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
        """See :func:`run_step.execute`."""
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
        """End the supervisor. The object is of no use afterwards."""
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
