"""What this machine can do for a build, found by trying."""

from __future__ import annotations

import os
import tempfile
from typing import NamedTuple

from run_step import choose_isolation, probe

from .place import default_root


class Row(NamedTuple):
    """One thing that a build may need. ``detail`` says what was found, or what would make it work."""

    what: str
    ok: bool
    detail: str


def examine(root: str | None = None) -> list[Row]:
    """Try each thing once."""
    from .store.snapshots.overlay import works

    host = probe()
    rows = [
        Row("root", host.uid == 0, f"uid {host.uid}" + ("" if host.uid == 0 else "; run as root for now")),
        Row("kernel", True, f"{host.kernel} {host.architecture}"),
        Row("cgroup", host.cgroup != "none", host.cgroup),
    ]
    for fact in host.runtimes:
        rows.append(Row(f"runtime {fact.name}", fact.works, fact.path if fact.works else fact.why))
    if not host.runtimes:
        rows.append(Row("runtime", False, "none found; install runc or crun, or use --isolation chroot"))
    place = root or default_root()
    existing = place
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    writable = os.access(existing, os.W_OK)
    rows.append(Row("store", writable, place if writable else f"{place} can't be written; choose --root"))
    if writable:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".buildfront-doctor-") as work:
            overlay = works(work)
        rows.append(
            Row(
                "overlay",
                overlay,
                "snapshots stack" if overlay else "can't be mounted here; snapshots are whole copies",
            )
        )
    name, why = choose_isolation("auto", host)
    rows.append(Row("isolation auto", True, f"{name}: {why}"))
    return rows
