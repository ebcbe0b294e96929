"""COPY and ADD: files of a context or of another step's result, selected, digested and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from run_step import Root

from ...graph.step_graph import CopyOp, Step
from ..active_build import ActiveBuild
from ..cache_lookup import key_for, recall
from ..operation import Reads
from ..result import Result
from ..selection import Changed, Selection
from ..state import State
from .copier import Copier

_TRIES = 4
"""How often a COPY from a context that changes meanwhile is begun."""


class CopyOperation:
    """One COPY or ADD."""

    def __init__(self, step: Step, op: CopyOp) -> None:
        self.step = step
        self.op = op

    def check(self, state: State) -> None:
        """Do nothing: it requires nothing from the caller."""

    def reads(self, state: State) -> Reads | None:
        """Return the digest of the selected files; None where a step's result has to be looked into first."""
        found = state.digests.known(self.op, self._origin(state))
        return None if found is None else (found,)

    def key_parts(self, reads: Reads, run_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the digest of the files, and how they are written."""
        op = self.op
        parts: dict[str, Any] = {
            "content": reads[0],
            "dest": op.dest,
            "chown": op.chown,
            "chmod": op.chmod,
            "unpack": op.unpack,
            "kept_owner": op.origin.kind == "step",
        }
        if op.for_mount:
            parts["for_mount"] = True
        return parts

    def recall(self, state: State, key: str) -> Result | None:
        """Return the result that the catalogue has for this key."""
        return recall(state, self.step, key)

    def perform(self, build: ActiveBuild) -> Result:
        """Copy the files."""
        origin = self._origin(build.state)
        return self._copy_context(build) if origin is None else self._copy_result(build, origin)

    def _origin(self, state: State) -> Result | None:
        """Return the result that is read; None for a context."""
        return state.results[self.op.origin.step] if self.op.origin.kind == "step" else None

    def _copy_result(self, build: ActiveBuild, origin: Result) -> Result:
        state = build.state
        with build.session.view(build.snapshot(origin)) as view, Root(view.path) as source:
            content, selections = state.digests.of_tree(self.op.paths, source, origin)
            key = key_for(state, self, (content,))
            known = self.recall(state, key.digest)
            if known is not None:
                return known
            build.report.start(self.step)

            def copy(root: Root) -> None:
                self._write(build, source, root, selections)

            return build.change(self.step, key, copy, layer=not self.op.for_mount)

    def _copy_context(self, build: ActiveBuild) -> Result:
        """Copy files that may change meanwhile. Where they are not what the key says any more, begin again."""
        state = build.state
        for attempt in range(1, _TRIES + 1):
            found = state.digests.of_context(self.op)
            content, selections = found
            key = key_for(state, self, (content,))
            if attempt == 1:
                build.report.start(self.step)
            elif (known := self.recall(state, key.digest)) is not None:
                build.report.done(self.step)
                return replace(known, cached=False)  # the listeners know that it was begun
            build.check()
            try:
                with Root(state.contexts[self.op.origin.name].path) as source:

                    def copy(root: Root, source: Root = source, chosen: list[Selection] = selections) -> None:
                        self._write(build, source, root, chosen)

                    return build.change(self.step, key, copy, layer=not self.op.for_mount)
            except Changed:
                state.digests.look_again(self.op, found)
                if attempt == _TRIES:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _write(self, build: ActiveBuild, source: Root, target: Root, selections: list[Selection]) -> None:
        keep_owner = self.op.origin.kind == "step"
        Copier(self.op, source, target, keep_owner=keep_owner, check=build.check).run(selections)
