"""Masked and read-only paths (row S32): what of the kernel's interface a step can't see or change."""

from __future__ import annotations

from ..host import HostFacts
from ..planning import Draft
from ..request import RunRequest

MASKED = (
    "/proc/acpi",
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
)
"""Hidden behind an empty file or directory. Source: row S32."""

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
    """Both lists go into the spec as they are."""
    draft.linux["maskedPaths"] = list(MASKED)
    draft.linux["readonlyPaths"] = list(READ_ONLY)
