"""Secrets that a mounts.conf file gives to every step (row S66, containers-mounts.conf(5)).

A step sees a private copy, made in the bundle and removed with it: a step's changes affect neither the host
nor the layer.
"""

from __future__ import annotations

import posixpath
from typing import Any

from ..host import HostFacts
from ..planning import BUNDLE, COPIED_FILES, CopyTree
from ..request import RunRequest
from .draft import Draft


def parse(line: str) -> tuple[str, str] | None:
    """Parse ``/host/path:/container/path``, or one path for both; return None for any other line."""
    source, _, destination = line.partition(":")
    paths = [path for path in (source, destination or source) if path.startswith("/")]
    clean = [posixpath.normpath("/" + path.lstrip("/")) for path in paths]
    return (clean[0], clean[1]) if len(clean) == 2 and clean[1] != "/" else None


def mounts(draft: Draft, request: RunRequest, host: HostFacts) -> list[dict[str, Any]]:
    """Return a bind mount for each line whose source can be copied; the others are left out with a warning."""
    out: list[dict[str, Any]] = []
    known = {item.path: item.directory for item in host.paths}
    for number, line in enumerate(host.default_mounts):
        parsed = parse(line)
        if parsed is None:
            draft.warnings.append(
                f"mounts.conf: the line {line!r} is left out; /HOST-PATH:/CONTAINER-PATH is wanted"
            )
            continue
        source, destination = parsed
        if source not in known:
            draft.warnings.append(
                f"mounts.conf: {source} is left out; it does not exist here, or can't be read"
            )
            continue
        name = f"{'secrets' if known[source] else COPIED_FILES}/{number}"
        draft.actions.append(CopyTree(source, name))
        out.append(
            {
                "destination": destination,
                "type": "bind",
                "source": f"{BUNDLE}/{name}",
                "options": ["bind", "rprivate"],
            }
        )
    return out
