"""Secrets that a mounts.conf file gives to every step (row S66, containers-mounts.conf(5))."""

from __future__ import annotations

from typing import Any

from ..host import HostFacts
from ..planning import BUNDLE, CopyTree, Draft
from ..request import RunRequest


def parse(line: str) -> tuple[str, str] | None:
    """``/host/dir:/container/dir``, or one path for both; None for a blank line or a comment."""
    text = line.split("#", 1)[0].strip()
    if not text:
        return None
    source, _, destination = text.partition(":")
    destination = destination or source
    if not source.startswith("/") or not destination.startswith("/"):
        return None
    return source, destination


def mounts(draft: Draft, request: RunRequest, host: HostFacts) -> list[dict[str, Any]]:
    """One bind mount for each line whose source exists, of a private copy made in the bundle."""
    out = []
    for number, item in enumerate(host.default_mounts):
        parsed = parse(item)
        if parsed is None:
            continue
        source, destination = parsed
        name = f"{number}"
        draft.actions.append(CopyTree(source, f"secrets/{name}"))
        out.append(
            {
                "destination": destination.rstrip("/") or "/",
                "type": "bind",
                "source": f"{BUNDLE}/secrets/{name}",
                "options": ["bind", "rprivate"],
            }
        )
    return out
