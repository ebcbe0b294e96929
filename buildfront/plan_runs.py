"""Plans for the RUN steps of a build that is not run."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from run_step import HostError, LocalExecutor, RequestError

from .engine.model import Result
from .errors import BuildError
from .graph.render import labels
from .graph.step_graph import RunOp, Step

if TYPE_CHECKING:
    from run_step import HostFacts, RunPlan

    from .build import Prepared
    from .options import BuildOptions


def plan_runs(
    options: BuildOptions,
    stack: ExitStack,
    facts: HostFacts | None,
    *,
    step: str = "",
    bundle: str = "",
) -> list[dict[str, Any]]:
    """For each RUN: its number, title, where its root filesystem was taken from, and its plan.

    ``step`` chooses one by its number, or those of a stage by its name;
    ``bundle`` is a directory, made here, that becomes a bundle of that step.
    Runs nothing of the build; base images are unpacked, because planning reads their passwd and group files.
    Raises BuildError.
    """
    import threading

    from .build import prepare

    prepared = prepare(options, stack)
    prepared.engine.take_cached()
    chosen = _choose(prepared, step, bundle)
    found: list[dict[str, Any]] = []
    failure: list[BaseException] = []

    def body() -> None:
        # On a thread of its own, because it mounts in a namespace of its own.
        from .store.snapshots.overlay_mount import enter_private_namespace

        try:
            enter_private_namespace()
            found.extend(_plan(prepared, item, options, facts, bundle) for item in chosen)
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return found


def _choose(prepared: Prepared, number: str, bundle: str) -> list[Step]:
    runs = [step for step in prepared.graph.steps if isinstance(step.op, RunOp)]
    known = ", ".join(str(step.id) for step in runs) or "none"
    stage = labels(prepared.graph)
    chosen = [step for step in runs if number in ("", str(step.id), stage(step))]
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
    from run_step import copy_tree, write_bundle

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
    """The result of the nearest ancestor that is known, and whether that is the parent itself."""
    results = prepared.engine.state.results
    number = step.parent
    exact = True
    while number is not None and number not in results:
        exact = False
        number = prepared.graph.step(number).parent
    assert number is not None
    return results[number], exact


def _plan(
    prepared: Prepared, step: Step, options: BuildOptions, facts: HostFacts | None, bundle: str
) -> dict[str, Any]:
    from .engine.cache_key import key_of
    from .engine.mounting import planned
    from .engine.work import run_request
    from .steps.base import unpack

    op = step.op
    assert isinstance(op, RunOp)
    parent, exact = _nearest(prepared, step)
    executor = LocalExecutor(host=facts)
    settings = prepared.engine.state.options
    try:
        with prepared.store.session() as session:
            snapshot = parent.snapshot
            if snapshot is None and parent.base is not None:
                snapshot = unpack(parent.base, session)
            with session.view(snapshot) as view:
                needed = {mount.id for mount in op.mounts if mount.required}  # a build would have them
                mounts = planned(op, {*settings.secrets, *needed}, {*settings.agents, *needed})
                identity = key_of({"parent": parent.key, "command": list(op.command)})
                request = run_request(settings, op, view.path, identity, mounts)
                made = executor.plan(request)
                plan = made.to_json()
                if bundle:
                    _write_bundle(made, view.path, bundle)
    except (RequestError, HostError) as error:
        raise BuildError(str(error), where=step.source) from None
    finally:
        executor.close()
    return {
        "step": step.id,
        "title": step.title,
        "rootfs_from": "parent" if exact else "nearest known ancestor",
        "plan": plan,
    }
