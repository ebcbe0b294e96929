"""Masked and read-only paths (row S32): what of the kernel's interface a step can't see or change."""

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
"""Hidden behind an empty file or directory. Sources: row S32, and what containerd and moby have added since."""

THERMAL = "/sys/devices/system/cpu/cpu{}/thermal_throttle"
"""Hidden for each CPU whose interface for that the host has: by its counters a step would see what others do."""

READ_ONLY = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
"""Mounted read-only on themselves. Source: row S32."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Both lists, with ``mask=`` added and what ``unmask=`` names, by paths, patterns or ALL, taken out (row X37)."""
    everything = any(path.upper() == "ALL" for path in request.unmask)
    patterns = [path.rstrip("/") for path in request.unmask]

    def kept(paths: tuple[str, ...]) -> list[str]:
        return [path for path in paths if not any(_matches(path, pattern) for pattern in patterns)]

    masked = (*MASKED, *(THERMAL.format(number) for number in host.thermal_cpus))
    draft.linux["maskedPaths"] = [] if everything else kept(masked)
    draft.linux["readonlyPaths"] = [] if everything else kept(READ_ONLY)
    draft.linux["maskedPaths"] += [path for path in request.mask if path not in draft.linux["maskedPaths"]]


def _matches(path: str, pattern: str) -> bool:
    """Whether each name of ``path`` fits the one of ``pattern`` in its place: a wildcard stops at a slash, as in podman
    and buildah."""
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(fnmatchcase, names, wanted))
