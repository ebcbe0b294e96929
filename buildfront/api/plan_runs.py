"""The plans of a build's RUN steps. No step runs."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from run_step import HostError, HostFacts, LocalExecutor, RequestError, RunPlan, copy_tree, write_bundle

from ..engine.cache_key import key_of
from ..engine.ops.run_inputs import planned_mounts
from ..engine.ops.run_request import run_request
from ..engine.result import Result
from ..engine.unpack import Unpacker
from ..errors import BuildError
from ..graph.render import labels
from ..graph.step_graph import RunOp, Step
from ..options import BuildOptions
from ..store.snapshots.overlay_mount import enter_private_namespace
from .prepare import Prepared, prepare


@dataclass(frozen=True)
class RunSpec:
    """The plan of one RUN step.

    Attributes:
        step: The step's number in the graph (see :func:`plan`).
        title: The instruction.
        rootfs_from: The root filesystem in which names were looked up. ``parent``: that of the parent step, which the
            cache holds. ``nearest known ancestor``: that of an earlier step; users, groups and files that the steps in
            between would create are not seen.
        plan: The plan. ``plan.spec`` is the OCI runtime config as JSON values.
    """

    step: int
    title: str
    rootfs_from: str
    plan: RunPlan

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "step": self.step,
            "title": self.title,
            "rootfs_from": self.rootfs_from,
            "plan": self.plan.to_json(),
        }


def spec(
    options: BuildOptions, *, step: str = "", bundle: str = "", host_facts: HostFacts | str | None = None
) -> list[RunSpec]:
    """Return the plan of each RUN step. No step runs.

    Base images are unpacked, because planning reads their passwd and group files.

    Args:
        options: The build.
        step: Only the step with this number, or the steps of the stage with this name.
        bundle: A directory, made here, that becomes an OCI bundle of the one step that was chosen.
        host_facts: The host to plan for, or a file that records one. By default it is this machine.

    Raises:
        BuildError: The Dockerfile is wrong, no step was chosen, or an option can't be carried out on the host.
    """
    facts = _read_facts(host_facts) if isinstance(host_facts, str) else host_facts
    with ExitStack() as stack:
        prepared = prepare(options, stack)
        prepared.engine.take_cached()
        chosen = _choose(prepared, step, bundle)
        found: list[RunSpec] = []
        failure: list[BaseException] = []

        def body() -> None:
            # On a thread of its own, because it mounts in a namespace of its own.
            try:
                enter_private_namespace()
                found.extend(_plan(prepared, step, op, facts, bundle) for step, op in chosen)
            except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
                failure.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return found


def _read_facts(path: str) -> HostFacts:
    try:
        return HostFacts.from_file(path)
    except OSError as error:
        raise BuildError(f"{path} can't be read: {error.strerror}", status=2) from None
    except RequestError as error:
        raise BuildError(f"{path} does not hold host facts: {error}", status=2) from None


def _choose(prepared: Prepared, number: str, bundle: str) -> list[tuple[Step, RunOp]]:
    runs = prepared.graph.runs()
    known = ", ".join(str(step.id) for step, _ in runs) or "none"
    stage = labels(prepared.graph)
    chosen = [(step, op) for step, op in runs if number in ("", str(step.id), stage(step))]
    if number and not chosen:
        raise BuildError(
            f"no RUN step has the number or the stage {number!r}", hint=f"RUN steps are {known}", status=2
        )
    if bundle and len(chosen) != 1:
        raise BuildError(
            f"a bundle is of one step, and there are {len(chosen)}",
            hint=f"choose with --step: {known}",
            status=2,
        )
    if bundle and os.path.exists(bundle):
        raise BuildError(f"{bundle} exists already", hint="name a directory that is to be made", status=2)
    return chosen


def _write_bundle(plan: RunPlan, rootfs: str, bundle: str) -> None:
    os.makedirs(os.path.join(bundle, "rootfs"), mode=0o755)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source, target = os.open(rootfs, flags), os.open(os.path.join(bundle, "rootfs"), flags)
    try:
        copy_tree(source, target)
    finally:
        os.close(source)
        os.close(target)
    write_bundle(plan, os.path.abspath(bundle))


def _nearest(prepared: Prepared, step: Step) -> tuple[Result, bool]:
    """Return the result of the nearest ancestor that is known, and whether that is the parent itself."""
    results = prepared.engine.state.results
    number = step.parent
    exact = True
    while number is not None and number not in results:
        exact = False
        number = prepared.graph.step(number).parent
    assert number is not None
    return results[number], exact


def _plan(prepared: Prepared, step: Step, op: RunOp, facts: HostFacts | None, bundle: str) -> RunSpec:
    parent, exact = _nearest(prepared, step)
    executor = LocalExecutor(host=facts)
    settings = prepared.engine.state.options
    try:
        with prepared.store.session() as session, session.view(Unpacker(session).snapshot(parent)) as view:
            needed = {mount.id for mount in op.mounts if mount.required}  # a build would have them
            mounts = planned_mounts(op, {*settings.secrets, *needed}, {*settings.agents, *needed})
            identity = key_of({"parent": parent.key, "command": list(op.command)})
            made = executor.plan(run_request(settings, op, view.path, identity, mounts))
            if bundle:
                _write_bundle(made, view.path, bundle)
    except (RequestError, HostError) as error:
        raise BuildError(str(error), where=step.source) from None
    finally:
        executor.close()
    return RunSpec(step.id, step.title, "parent" if exact else "nearest known ancestor", made)
