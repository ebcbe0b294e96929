"""Masked and read-only paths (row S32): what of the kernel's interface a step can't see or change."""

from __future__ import annotations

from fnmatch import fnmatchcase

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
    """Both lists, with ``mask=`` added and what ``unmask=`` names (or ``ALL``) taken out (row X37)."""
    everything = any(path.upper() == "ALL" for path in request.unmask)
    patterns = [path.rstrip("/") for path in request.unmask]

    def kept(paths: tuple[str, ...]) -> list[str]:
        return [path for path in paths if not any(fnmatchcase(path, pattern) for pattern in patterns)]

    draft.linux["maskedPaths"] = [] if everything else kept(MASKED)
    draft.linux["readonlyPaths"] = [] if everything else kept(READ_ONLY)
    draft.linux["maskedPaths"] += [path for path in request.mask if path not in draft.linux["maskedPaths"]]
