"""The sources of one COPY or ADD: what they are now, and how each is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

from run_step import Root

from ...dockerfile.ignore import literal
from ...graph.step_graph import CopyOp, GitTree, HttpFile, Inline
from ..active_build import ActiveBuild
from ..cache_key import canonical
from ..content import Found
from ..remote_sources import RemoteSource
from ..result import Result
from ..selection import Selection, Wanted, select, wanted
from ..state import State
from .copier import Copier

Paths = tuple[str, ...]
Group = Paths | Inline | HttpFile | GitTree
"""Sources that are copied together: paths of one tree that come one after the other, or one source of another kind."""


def groups(op: CopyOp) -> Iterator[Group]:
    """Yield the sources of an operation in their order, paths as tuples."""
    for are_paths, found in groupby(op.sources, lambda source: isinstance(source, str)):
        if are_paths:
            yield tuple(source for source in found if isinstance(source, str))
        else:
            yield from (source for source in found if not isinstance(source, str))


def known_reads(op: CopyOp, state: State, origin: Result | None) -> tuple[str, ...] | None:
    """Return the digest of each group; None where one is not known yet."""
    out = []
    for group in groups(op):
        if isinstance(group, Inline):
            read: str | None = _inline(group)
        elif isinstance(group, HttpFile | GitTree):
            identity = state.remotes.identity(group)
            read = None if identity is None else _remote(group, identity)
        else:
            read = state.digests.known(op.origin, wanted(op, group), origin)
        if read is None:
            return None
        out.append(read)
    return tuple(out)


def _inline(inline: Inline) -> str:
    content = inline.content.encode("utf-8", "surrogateescape")
    return canonical(["inline", inline.name, hashlib.sha256(content).hexdigest()])


def _remote(source: RemoteSource, identity: str) -> str:
    if isinstance(source, HttpFile):
        return canonical(["http", identity, source.unpack])
    return canonical(["git", identity])


@dataclass(frozen=True)
class Ready:
    """A group that was looked at: ``read`` is its digest.

    ``root`` and ``selections`` are None for an inline file; ``found`` is what the digests of contexts remember of it.
    """

    group: Group
    read: str
    root: Root | None = None
    selections: tuple[Selection, ...] = ()
    found: Found | None = None

    def copy(self, copier: Copier, *, keep: bool) -> None:
        """Copy it. ``keep``: paths are of a step's result, whose owners and attributes are kept."""
        if isinstance(self.group, Inline):
            copier.write(self.group)
            return
        assert self.root is not None
        paths = isinstance(self.group, tuple)
        copier.copy(
            self.root,
            list(self.selections),
            keep=keep and paths,
            unpacks=copier.op.unpack if paths else isinstance(self.group, HttpFile) and self.group.unpack,
            whole=isinstance(self.group, GitTree),
        )


def look(
    op: CopyOp, build: ActiveBuild, origin: Result | None, stack: ExitStack, tell: Callable[[str], None]
) -> list[Ready]:
    """Look at all sources: open trees, select files, fetch what is far away.

    ``stack`` closes what was opened, ``tell`` is called with lines about transfers that take long.
    Raise BuildError for a source that can't be had.
    """
    state = build.state
    out: list[Ready] = []
    tree: Root | None = None
    for group in groups(op):
        build.check()
        if isinstance(group, Inline):
            out.append(Ready(group, _inline(group)))
        elif isinstance(group, HttpFile | GitTree):
            fetched = state.remotes.fetch(group, tell)
            root = stack.enter_context(Root(fetched.path))
            want = Wanted((literal(fetched.name) or ".",), left_out=op.excludes)
            selections = select(root, want, what="source")
            out.append(Ready(group, _remote(group, fetched.identity), root, tuple(selections)))
        else:
            if tree is None:
                tree = stack.enter_context(Root(_place(op, build, origin, stack)))
            want = wanted(op, group)
            if origin is not None:
                image = state.graph.step(op.origin.step).internal  # else the step belongs to a stage
                what = "image it is copied from" if image else "stage it is copied from"
                found = state.digests.of_tree(want, tree, origin, what)
            else:
                found = state.digests.of_context(op.origin.name, want)
            out.append(Ready(group, found[0], tree, tuple(found[1]), found))
    return out


def _place(op: CopyOp, build: ActiveBuild, origin: Result | None, stack: ExitStack) -> str:
    """Return the directory of the tree that paths are read from."""
    if origin is None:
        return build.state.contexts[op.origin.name].path
    return stack.enter_context(build.session.view(build.snapshot(origin))).path


def look_again(op: CopyOp, state: State, ready: list[Ready]) -> None:
    """Forget what is known of a context's files, because some of them have changed."""
    for item in ready:
        if item.found is not None and isinstance(item.group, tuple):
            state.digests.look_again(op.origin.name, wanted(op, item.group), item.found)
