"""Cgroup limits (row S30), as OCI ``linux.resources``."""

from __future__ import annotations

from typing import Any

from ..host import HostFacts
from ..planning import Draft
from ..request import RunRequest


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set what was asked for; leave the rest out of the spec."""
    wanted = request.resources
    cpu: dict[str, Any] = {
        "period": wanted.cpu_period,
        "quota": wanted.cpu_quota,
        "shares": wanted.cpu_shares,
        "cpus": wanted.cpuset_cpus,
        "mems": wanted.cpuset_mems,
    }
    memory = {"limit": wanted.memory, "swap": wanted.memory_swap}
    resources = draft.linux["resources"]
    for name, group in (("cpu", cpu), ("memory", memory)):
        given = {key: value for key, value in group.items() if value}
        if given:
            resources[name] = given
    if wanted.cgroup_parent:
        draft.linux["cgroupsPath"] = wanted.cgroup_parent
    if draft.isolation == "chroot" and (
        resources or wanted.cgroup_parent
    ):  # devices come later, and are no limit
        from ..errors import HostError

        raise HostError("chroot isolation cannot limit CPU or memory yet: use --isolation oci")
