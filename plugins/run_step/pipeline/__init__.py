"""The pipeline that makes a plan: one module per concern, each with ``apply(draft, request, host)``.

:data:`STAGES` is the order. A stage changes only the draft; it reads the request, the facts and, through
``draft.root``, the root filesystem. A third party may pass its own tuple to :func:`run_step.plan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..chroot_fields import check_fields
from ..defaults import decide
from ..errors import RequestError
from ..host import HostFacts
from ..planning import ROOTFS, RunPlan
from ..request import ISOLATIONS, RunRequest
from ..rootfs import open_rootfs
from . import (
    annotation,
    bare,
    capabilities,
    command,
    cwd,
    devices,
    environment,
    files,
    hooks,
    isolation_choice,
    labels,
    mounts,
    namespaces,
    paths,
    privileges,
    resources,
    rlimits,
    rootless_limits,
    seccomp,
    terminal,
    user,
    values,
)
from .draft import Draft

Stage = Callable[[Draft, RunRequest, HostFacts], None]

STAGES: tuple[Stage, ...] = (
    isolation_choice.apply,
    environment.apply,
    annotation.apply,
    resources.apply,
    rlimits.apply,
    cwd.apply,
    labels.apply,
    command.apply,
    devices.apply,
    paths.apply,
    terminal.apply,
    namespaces.apply,
    user.apply,
    privileges.apply,
    capabilities.apply,
    cwd.create,
    seccomp.apply,
    files.apply,
    mounts.apply,
    hooks.apply,
    rootless_limits.apply,
    devices.place,
    bare.apply,
)


def plan(request: RunRequest, host: HostFacts, *, stages: Sequence[Stage] | None = None) -> RunPlan:
    """Decide everything about one RUN step.

    Reads the request, the facts and the root filesystem; changes nothing. Equal inputs give equal plans. The isolation
    ``auto``, or none, is the best that the facts allow. What the request names on the host (volumes, devices, hooks,
    networks) is known from the facts only: :func:`run_step.look_up` adds it, and :func:`run_step.plan_here` calls both.
    ``stages`` replaces the default pipeline (:data:`STAGES`).

    Raises RequestError for what is wrong in the request, HostError for what this host cannot do.
    """
    values.check(request)
    if not request.args:
        raise RequestError("the request has no command: args is empty")
    notes: list[str] = []
    if request.isolation in ("", "auto"):
        choice = decide(host).isolation
        notes = [choice.note] if choice.note else []
        request = replace(request, isolation=choice.taken or "chroot")
    name = request.isolation
    if name not in ISOLATIONS:
        raise RequestError(f"unknown isolation {name!r}; known are {', '.join(ISOLATIONS)}")
    container_id = request.container_id or hashlib.sha256(repr(request).encode()).hexdigest()
    with open_rootfs(request.rootfs) as root:
        draft = Draft(root=root, isolation=name, container_id=container_id, spec=_empty_spec(request))
        for stage in STAGES if stages is None else stages:
            stage(draft, request, host)
    check_fields(name, draft.spec, draft.network)
    runtime = request.runtime
    if name == "oci" and not runtime and host.working_runtime is not None:
        runtime = host.working_runtime.name
    return RunPlan(
        isolation=name,
        container_id=container_id,
        spec=draft.spec,
        files=tuple(draft.files),
        actions=tuple(draft.actions),
        network=draft.network,
        runtime=runtime,
        runtime_flags=request.runtime_flags,
        no_pivot=request.no_pivot,
        warnings=(*notes, *draft.warnings),
    )


def _empty_spec(request: RunRequest) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(request.args),
            "env": [],
            "cwd": "/",
        },
        "root": {"path": ROOTFS, "readonly": False},
        "hostname": "",
        "mounts": [],
        "linux": {"namespaces": [], "resources": {}},
    }


__all__ = ["STAGES", "Draft", "Stage", "plan"]
