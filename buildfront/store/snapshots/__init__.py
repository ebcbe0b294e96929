"""Snapshots: root filesystems built one change upon another.

Two drivers have the same interface: ``overlay`` keeps each change in a directory of its own and lets the kernel stack
them; ``copy`` keeps whole trees, for machines that can't mount overlays.
"""

from __future__ import annotations

import os

from .copying import CopyDriver
from .interface import Active, Driver, View
from .overlay import OverlayDriver, works


def driver(name: str) -> Driver:
    """Return the driver ``overlay`` or ``copy``."""
    return CopyDriver() if name == "copy" else OverlayDriver()


def best(work: str) -> str:
    """Return the name of the driver that works in this directory: overlay if it can be mounted, else copy."""
    asked = os.environ.get("BUILDFRONT_SNAPSHOTS", "")
    if asked in ("overlay", "copy"):
        return asked
    return "overlay" if works(work) else "copy"


__all__ = ["Active", "Driver", "View", "best", "driver"]
