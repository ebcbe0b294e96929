"""Plans for the RUN steps of a build that is not run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from run_step import HostError, ImageDefaults, LocalExecutor, RequestError

from .engine.model import Result
from .errors import BuildError
from .graph.model import RunOp, Step

if TYPE_CHECKING:
    from run_step import HostFacts

    from .api import BuildOptions, Prepared


def plan_runs(options: BuildOptions, stack: ExitStack, facts: HostFacts | None) -> list[dict[str, Any]]:
    """For each RUN: its number, title, where its root filesystem was taken from, and its plan.

    Runs nothing of the build; base images are unpacked, because planning reads their passwd and group files.
    Raises BuildError.
    """
    import threading

    from .api import prepare

    prepared = prepare(options, stack)
    prepared.engine.take_cached()
    found: list[dict[str, Any]] = []
    failure: list[BaseException] = []

    def body() -> None:
        # On a thread of its own, because it mounts in a namespace of its own.
        from .store.snapshots.mounts import enter_private_namespace

        try:
            enter_private_namespace()
            found.extend(_plan(prepared, step, step.op, options, facts) for step in _runs(prepared))
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return found


def _runs(prepared: Prepared) -> list[Any]:
    return [step for step in prepared.graph.steps if isinstance(step.op, RunOp)]


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
    prepared: Prepared, step: Step, op: RunOp, options: BuildOptions, facts: HostFacts | None
) -> dict[str, Any]:
    from .engine.cache import key_of
    from .steps.base import unpack

    parent, exact = _nearest(prepared, step)
    executor = LocalExecutor(host=facts)
    assert options.run is not None
    try:
        with prepared.store.session() as session:
            snapshot = parent.snapshot
            if snapshot is None and parent.base is not None:
                snapshot = unpack(parent.base, session)
            with session.view(snapshot) as view:
                request = replace(
                    options.run,
                    args=op.command,
                    rootfs=view.path,
                    image=ImageDefaults(env=op.env, user=op.user, working_dir=op.cwd),
                    env=op.args + op.proxy,
                    container_id=key_of({"parent": parent.key, "command": list(op.command)}),
                    network=op.network if op.network not in ("", "default") else options.run.network,
                )
                plan = executor.plan(request).to_json()
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
