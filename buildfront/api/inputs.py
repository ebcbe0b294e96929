"""The paths on which the result of a build depends."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..context.directory import NAMED_IGNORE
from ..engine.fetching import pinned
from ..engine.remote_sources import remote_sources
from .prepare import Prepared


def inputs(prepared: Prepared) -> tuple[str, ...] | None:
    """Return every path on which the result of a wholly cached build depends, absolute and each once.

    None where the status of files can't tell whether something has changed.
    """
    if not prepared.local:
        return None
    if any(pinned(source) is None for source in remote_sources(prepared.graph.steps)):
        return None  # only a server knows whether it has changed
    if any(name.startswith("oci-layout://") for name in prepared.bases):
        return None
    if any(os.path.islink(path) for path in prepared.source.looked_at):
        return None  # its target would have to be watched as well
    found = list(prepared.source.looked_at)
    for name, context in prepared.contexts.items():
        if name:
            found.append(os.path.join(context.path, NAMED_IGNORE))
    for name, want in prepared.engine.state.digests.selected:
        top = prepared.contexts[name].path
        if (
            os.path.islink(top)
            or want.parents
            or any("/" in i.strip("/") and _is_pattern(i) for i in want.sources)
        ):
            return None  # a pattern's match may appear in a directory that has none yet
        if any(item.strip().startswith("!") for item in want.left_out):
            return None  # as may an exception
        found.append(top)
    for path in _selected(prepared):
        if path is None:
            return None
        found.append(path)
    return tuple(dict.fromkeys(map(os.path.abspath, found)))


def _selected(prepared: Prepared) -> Iterator[str | None]:
    """The paths that steps read of the contexts; None for a link on the way, whose target would have to be watched."""
    for (name, _), selections in prepared.engine.state.digests.selected.items():
        context = prepared.contexts[name]
        for selection in selections:
            if selection.directory and not context.prune:
                # An exception of the ignore file may appear in a directory that is left out so far.
                for directory, _, _ in os.walk(os.path.join(context.path, selection.path)):
                    yield directory
            parts = selection.path.split("/") if selection.path else []
            for count in range(1, len(parts) + 1):
                path = os.path.join(context.path, *parts[:count])
                yield None if os.path.islink(path) else path
            for item in selection.items:
                if item.path:
                    yield os.path.join(context.path, item.path)


def _is_pattern(source: str) -> bool:
    return any(char in source for char in "*?[")
