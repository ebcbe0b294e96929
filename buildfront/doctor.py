"""What this machine can do for a build, found by trying."""

from __future__ import annotations

import os
import tempfile

from run_step import Finding as Row
from run_step import examine as examine_step

from .store.location import default_root


def examine(root: str | None = None) -> list[Row]:
    """Try each thing once: what a step may need (see :func:`run_step.examine`), then the store."""
    place = root or default_root()  # an ordinary user's, before it becomes root of a user namespace
    rows = examine_step()
    existing = place
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    writable = os.access(existing, os.W_OK)
    rows.append(Row("store", writable, place if writable else f"{place} can't be written; choose --root"))
    if writable:
        from .store.snapshots.overlay import works

        with tempfile.TemporaryDirectory(dir=existing, prefix=".buildfront-doctor-") as work:
            overlay = works(work)
        detail = "snapshots stack" if overlay else "can't be mounted here; snapshots are whole copies"
        rows.append(Row("overlay", overlay, detail))
    return rows


__all__ = ["Row", "examine"]
