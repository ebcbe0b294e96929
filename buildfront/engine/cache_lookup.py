"""Step keys of one build, and the results that the catalogue has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..graph.step_graph import Step
from ..store.verified import is_whole
from .cache_key import Key, make_key
from .operation import Operation, Reads
from .result import Result
from .state import State


def lookup(state: State, operation: Operation) -> Result | None:
    """Return the known result of an operation, or None when it has to be performed.

    The results of the step's inputs are known.
    """
    reads = operation.reads(state)
    if reads is None:
        return None
    return operation.recall(state, key_for(state, operation, reads).digest)


def key_for(state: State, operation: Operation, reads: Reads) -> Key:
    """Return the key of an operation whose parent's result is known."""
    number = operation.step.parent
    parent = "" if number is None else state.results[number].key
    return make_key(components(operation, parent, state.graph.platform, reads, state.run_options))


def components(
    operation: Operation, parent: str, platform: str, reads: Reads, run_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parts of an operation's key, by name. ``parent`` is the key of the parent step."""
    parts: dict[str, Any] = {"parent": parent, "platform": platform, "kind": operation.step.op.kind}
    return parts | operation.key_parts(reads, run_options)


def recall(state: State, step: Step, key: str) -> Result | None:
    """Return the result that the catalogue has for this key, unless the user asked not to use it."""
    if state.options.no_cache or step.stage in state.no_cache_stages:
        return None
    row = state.store.catalogue.step(key)
    if row is None:
        return None
    parent = state.parent(step)
    if not row.changed:
        if parent.snapshot is not None and row.snapshot != parent.snapshot:
            return None  # on other files the same step may have something to do
        return Result(key, parent.snapshot, parent.base, changed=False, cached=True)
    snapshot = None if row.snapshot is None else state.store.catalogue.snapshot(row.snapshot)
    if snapshot is None or not state.store.has_snapshot(snapshot.id):
        state.store.catalogue.forget_step(key)
        return None
    if parent.snapshot is not None and snapshot.parent != parent.snapshot:
        return None  # its parent ran again since: this result lies on the files of the earlier run
    if parent.snapshot is None and not state.store.has_lineage(snapshot.parent):
        # Where the parent has a snapshot, the snapshots below have been checked.
        state.store.catalogue.forget_step(key)
        return None
    if snapshot.digest is not None and not is_whole(state.store, snapshot.digest, snapshot.size):
        return None  # its layer is missing or damaged: it is made again
    return Result(key, row.snapshot, None, changed=True, cached=True)
