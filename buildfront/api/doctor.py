"""The abilities of this machine for a build, found by trying."""

from __future__ import annotations

import os
import tempfile

from run_step import Finding, examine

from ..store.location import default_root
from ..store.snapshots.overlay import works


def doctor(root: str | None = None) -> list[Finding]:
    """Try once each thing that a build may need of this machine, and return what was found.

    A :class:`Finding` has ``what`` was tried, whether it is ``ok``, and a ``detail``: for something that does not
    work, what would change that. The process must have one thread.
    """
    place = root or default_root()  # an ordinary user's, before it becomes root of a user namespace
    found = examine()
    existing = place
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    writable = os.access(existing, os.W_OK)
    found.append(
        Finding("store", writable, place if writable else f"{place} can't be written; choose --root")
    )
    if writable:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".buildfront-doctor-") as work:
            overlay = works(work)
        detail = "snapshots stack" if overlay else "can't be mounted here; snapshots are whole copies"
        found.append(Finding("overlay", overlay, detail))
    return found
