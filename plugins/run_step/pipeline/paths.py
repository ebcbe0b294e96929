"""Masked and read-only paths (row S32): parts of the kernel's interface that a step can't see or change."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/dev",
    "/sys/devices/virtual/powercap",
)
"""Paths hidden behind an empty file or directory. Sources: row S32, and later additions of containerd and moby."""

THERMAL = "/sys/devices/system/cpu/cpu{}/thermal_throttle"
"""A path hidden for each CPU of the host that has it: its counters would show the step what others do."""

READ_ONLY = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
"""Paths mounted read-only on themselves. Source: row S32."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set both lists: add the paths of ``mask=``, and remove those of ``unmask=``, a path, pattern or ALL (row X37)."""
    everything = any(path.upper() == "ALL" for path in request.unmask)
    patterns = [path.rstrip("/") for path in request.unmask]

    def kept(paths: tuple[str, ...]) -> list[str]:
        return [path for path in paths if not any(_matches(path, pattern) for pattern in patterns)]

    masked = (*MASKED, *(THERMAL.format(number) for number in host.thermal_cpus))
    draft.linux["maskedPaths"] = [] if everything else kept(masked)
    draft.linux["readonlyPaths"] = [] if everything else kept(READ_ONLY)
    draft.linux["maskedPaths"] += [path for path in request.mask if path not in draft.linux["maskedPaths"]]


def _matches(path: str, pattern: str) -> bool:
    """Whether each component of ``path`` matches that of ``pattern``.

    A wildcard does not match a slash, as in podman and buildah.
    """
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(fnmatchcase, names, wanted))
