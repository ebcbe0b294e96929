"""Snapshots: root filesystems built one change upon another.

Two drivers with the same face: ``overlay`` keeps each change in a directory of its own and lets the kernel
stack them; ``copy`` keeps whole trees, for machines that can't mount overlays.
"""

from __future__ import annotations

import os
from typing import Protocol

from ...image.diff import Comparison


class Active(Protocol):
    """A root filesystem that is being changed."""

    path: str

    def finish(self) -> str:
        """Stop changing it: unmounts, and returns the directory that becomes the snapshot."""

    def discard(self) -> None:
        """Throw the changes away."""


class Driver(Protocol):
    """How snapshots are kept."""

    name: str

    def prepare(self, work: str, lineage: list[str]) -> Active:
        """A writable root filesystem on top of ``lineage`` (snapshot directories, topmost first), made in
        the empty directory ``work``."""

    def view(self, work: str, lineage: list[str]) -> View:
        """The same to look at; nothing may be written to it."""

    def comparison(self, directory: str) -> tuple[str, Comparison]:
        """The tree of a finished snapshot and how to compare it with its parent's view."""


class View:
    """A root filesystem to read. Close it when done."""

    def __init__(self, path: str, mounted: bool = False) -> None:
        self.path = path
        self._mounted = mounted

    def close(self) -> None:
        """Unmount it where it was mounted."""
        if self._mounted:
            from .overlay_mount import unmount

            unmount(self.path)
            self._mounted = False

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def driver(name: str) -> Driver:
    """``overlay`` or ``copy``."""
    if name == "copy":
        from .copying import CopyDriver

        return CopyDriver()
    from .overlay import OverlayDriver

    return OverlayDriver()


def best(work: str) -> str:
    """The driver that works in this directory: overlay where it can be mounted, else copy."""
    asked = os.environ.get("BUILDFRONT_SNAPSHOTS", "")
    if asked in ("overlay", "copy"):
        return asked
    from .overlay import works

    return "overlay" if works(work) else "copy"
