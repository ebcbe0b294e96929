"""COPY and ADD: files of a context, of a step's result, of the Dockerfile or of the network, put into an image."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from run_step import Root

from ...graph.step_graph import CopyOp, GitTree, HttpFile, Step
from ..active_build import ActiveBuild
from ..cache_key import Key, make_key
from ..cache_lookup import key_for, recall
from ..operation import Reads
from ..result import Result
from ..selection import Changed
from ..state import State
from . import chmod
from .copier import Copier
from .copy_inputs import Ready, known_reads, look, look_again
from .owners import find_owner

_TRIES = 4
"""How often a COPY from a context that changes meanwhile is begun."""


class CopyOperation:
    """One COPY or ADD."""

    def __init__(self, step: Step, op: CopyOp) -> None:
        self.step = step
        self.op = op
        self.linked = op.link and not op.chmod and not op.for_mount
        """Whether the files go onto an empty root filesystem. As with BuildKit, --chmod makes it an ordinary copy."""

    def check(self, state: State) -> None:
        """Raise BuildError for a mode that is none."""
        chmod.parse(self.op.chmod)

    def reads(self, state: State) -> Reads | None:
        """Return the digests of the sources; None where one has to be fetched, or looked for in a step's result."""
        return known_reads(self.op, state, self._origin(state))

    def key_parts(self, reads: Reads, run_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the digests of the sources, and how they are written."""
        op = self.op
        parts: dict[str, Any] = {
            "content": reads[0] if len(reads) == 1 else list(reads),
            "dest": op.dest,
            "chown": op.chown,
            "chmod": op.chmod,
            "unpack": op.unpack,
            "kept_owner": op.origin.kind == "step",
        }
        if op.for_mount:
            parts["for_mount"] = True
        if self.linked:
            parts["link"] = True
        return parts

    def recall(self, state: State, key: str) -> Result | None:
        """Return the result that the catalogue has for this key."""
        return recall(state, self.step, key)

    def perform(self, build: ActiveBuild) -> Result:
        """Copy the files. Where those of a context are not what the key says any more, begin again."""
        state, op = build.state, self.op
        started = any(isinstance(source, HttpFile | GitTree) for source in op.sources)
        if started:
            build.report.start(self.step)  # fetching takes time
        for attempt in range(1, _TRIES + 1):
            with ExitStack() as stack:
                ready = look(op, build, self._origin(state), stack, partial(build.report.tell, self.step))
                reads = tuple(item.read for item in ready)
                key = key_for(state, self, reads)
                known = self.recall(state, key.digest)
                if known is not None:
                    if started:  # the listeners know that it was begun
                        build.report.done(self.step)
                        return replace(known, cached=False)
                    return known
                if not started:
                    build.report.start(self.step)
                    started = True
                build.check()
                try:
                    return self._copy(build, key, reads, ready)
                except Changed:
                    look_again(op, state, ready)
                    if attempt == _TRIES:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _copy(self, build: ActiveBuild, key: Key, reads: Reads, ready: list[Ready]) -> Result:
        if self.linked:
            content = make_key(
                {"link": self.op.kind, "platform": build.state.graph.platform, **self.key_parts(reads, {})}
            )
            return build.add(self.step, key, content, partial(self._write, build, ready))
        return build.change(self.step, key, partial(self._write, build, ready), layer=not self.op.for_mount)

    def _origin(self, state: State) -> Result | None:
        """Return the result that is read; None for a context."""
        return state.results[self.op.origin.step] if self.op.origin.kind == "step" else None

    def _write(self, build: ActiveBuild, ready: list[Ready], target: Root) -> None:
        op = self.op
        before = build.state.parent(self.step)
        nameless = self.linked or (before.snapshot is None and before.base is None)
        owner, unknown = find_owner(None if nameless else target, op.chown)
        build.report.warn(self.step, unknown)
        copier = Copier(op, target, owner=owner, check=build.check)
        for item in ready:
            item.copy(copier, keep=op.origin.kind == "step")
        copier.finish()
