"""The spec pipeline: one module per concern, each one ``apply(draft, request, host)``.

:data:`STAGES` is the order. A stage changes the draft alone; it reads the request, the facts and, through
``draft.root``, the root filesystem. A third party may pass its own tuple to :func:`run_step.plan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import HostError, RequestError
from ..host import HostFacts
from ..planning import ROOTFS, Draft, NetworkPlan, RunPlan
from ..request import ISOLATIONS, RunRequest
from ..rootfs import Root
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


def run(request: RunRequest, host: HostFacts, stages: Sequence[Stage]) -> RunPlan:
    """Pass a new draft through ``stages`` and freeze it."""
    values.check(request)
    if not request.args:
        raise RequestError("the request has no command: args is empty")
    name = request.isolation or "oci"
    if name not in ISOLATIONS:
        raise RequestError(f"unknown isolation {name!r}; known are {', '.join(ISOLATIONS)}")
    if not request.rootfs.startswith("/"):
        raise RequestError(f"rootfs {request.rootfs!r}: the path must be absolute")
    container_id = request.container_id or hashlib.sha256(repr(request).encode()).hexdigest()
    with Root(request.rootfs) as root:
        draft = Draft(root=root, isolation=name, container_id=container_id, spec=_empty_spec(request))
        for stage in stages:
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
        warnings=tuple(draft.warnings),
    )


def check_fields(isolation: str, spec: dict[str, Any], network: NetworkPlan) -> None:
    """Raises HostError for what a spec asks for, whichever stage wrote it, that chroot isolation does not honour."""
    if isolation != "chroot":
        return
    from ..isolation.chroot.fields import refused

    found = refused(spec, network.mode not in ("host", "none", "path"))
    if found:
        raise HostError(
            f"chroot isolation can't honour {', '.join(found)}: leave it out of the spec, or use an OCI runtime "
            "(--isolation oci or rootless)"
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


__all__ = ["STAGES", "NetworkPlan", "Stage", "check_fields", "run"]
