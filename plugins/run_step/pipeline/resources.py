"""Cgroup limits (row S30), as OCI ``linux.resources``."""

from __future__ import annotations

import re
from typing import Any

from ..errors import RequestError
from ..host import HostFacts
from ..request import Resources, RunRequest
from .draft import Draft

_CPU_LIST = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", re.ASCII)


def _cpu_list(text: str, what: str) -> None:
    """Check a list in the format of cpuset(7), "List format": ``0-3,7``."""
    parts = (
        [[int(end) for end in part.split("-")] for part in text.split(",")]
        if _CPU_LIST.fullmatch(text)
        else []
    )
    if not parts or any(part[0] > part[-1] or part[-1] > 65535 for part in parts):
        raise RequestError(f"{what} {text!r}: a list such as 0-3,7 is wanted")


def check(wanted: Resources) -> None:
    """Raise RequestError, which quotes it, for the first value that no kernel takes.

    See sched-bwc.rst and cgroup-v1/memory.rst.
    """
    if wanted.cpu_period and not 1000 <= wanted.cpu_period <= 1000000:
        raise RequestError(
            f"CPU period '{wanted.cpu_period}': it must lie between 1000 and 1000000 microseconds"
        )
    if wanted.cpu_quota < -1 or 0 < wanted.cpu_quota < 1000:
        raise RequestError(
            f"CPU quota '{wanted.cpu_quota}': it must be at least 1000 microseconds, or -1 for none"
        )
    if wanted.cpu_shares < 0 or wanted.cpu_shares == 1:
        raise RequestError(f"CPU shares '{wanted.cpu_shares}': the weight must be at least 2")
    for text, what in ((wanted.cpuset_cpus, "cpuset CPUs"), (wanted.cpuset_mems, "cpuset memory nodes")):
        if text:
            _cpu_list(text, what)
    if wanted.memory < -1 or wanted.memory_swap < -1:
        raise RequestError("a memory limit must not be negative, except -1 for no limit")
    if wanted.pids < -1:
        raise RequestError(f"pids limit '{wanted.pids}': a number of processes is wanted, or -1 for no limit")
    if wanted.memory_swap > 0 and not 0 < wanted.memory <= wanted.memory_swap:
        raise RequestError(
            f"memory-swap '{wanted.memory_swap}' is the limit of memory and swap together: it needs a memory limit, "
            f"and must not be below it ('{wanted.memory}')"
        )


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the limits that were asked for; leave the others out of the spec."""
    wanted = request.resources
    check(wanted)
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
    if wanted.pids:
        resources["pids"] = {"limit": wanted.pids}
    if wanted.cgroup_parent:
        draft.linux["cgroupsPath"] = wanted.cgroup_parent
