"""The sources of ADD that come from the network, as the engine sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from ..errors import BuildError
from ..graph.step_graph import CopyOp, GitTree, HttpFile, Step
from .cancellation import Cancellation

RemoteSource = HttpFile | GitTree


@dataclass(frozen=True)
class Fetched:
    """A source that lies on this machine.

    ``path`` is a directory that holds the file ``name``, or, where ``name`` is empty, is the tree itself. Nothing
    changes it while the build runs. ``identity`` is the part of the cache key: it tells apart whatever makes another
    result, such as content, name and modification time of a file, or the commit and the options of a tree.
    """

    path: str
    name: str
    identity: str


class RemoteSources(Protocol):
    """Fetches what ADD reads from the network. Methods may be called by several threads."""

    def watch(self, cancel: Cancellation) -> None:
        """Stop whatever is under way when the build is to stop."""

    def look(self, sources: Iterable[RemoteSource]) -> None:
        """Begin to find the identities of sources, side by side."""

    def begin(self, sources: Iterable[RemoteSource]) -> None:
        """Begin to fetch sources, side by side."""

    def identity(self, source: RemoteSource) -> str | None:
        """Return the identity of what the source is now; None where it has to be fetched to know it."""

    def fetch(self, source: RemoteSource, report: Callable[[str], None] = lambda text: None) -> Fetched:
        """Return the source, fetched if it is not here already. Raise BuildError where it can't be had.

        It is there until the build ends. ``report`` is called with a line of text now and then while it takes long.
        """


class NoRemoteSources:
    """Refuses all of them."""

    def watch(self, cancel: Cancellation) -> None:
        """Do nothing."""

    def look(self, sources: Iterable[RemoteSource]) -> None:
        """Do nothing."""

    def begin(self, sources: Iterable[RemoteSource]) -> None:
        """Do nothing."""

    def identity(self, source: RemoteSource) -> str | None:
        """Return None."""
        return None

    def fetch(self, source: RemoteSource, report: Callable[[str], None] = lambda text: None) -> Fetched:
        """Raise BuildError."""
        place = source.url if isinstance(source, HttpFile) else source.remote
        raise BuildError(f"{place!r} can't be fetched: this build has no access to remote sources")


def remote_sources(steps: Iterable[Step]) -> list[RemoteSource]:
    """Return the sources of steps that come from the network, each once."""
    found = [
        source
        for step in steps
        if isinstance(step.op, CopyOp)
        for source in step.op.sources
        if isinstance(source, HttpFile | GitTree)
    ]
    return list(dict.fromkeys(found))
