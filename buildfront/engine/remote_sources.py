"""The sources of ADD that come from the network, as the engine sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import BuildError
from ..graph.step_graph import GitTree, HttpFile

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

    def identity(self, source: RemoteSource) -> str | None:
        """Return the identity of what the source is now; None where it has to be fetched to know it."""

    def fetch(self, source: RemoteSource) -> Fetched:
        """Return the source, fetched if it is not here already. Raise BuildError where it can't be had.

        It is there until the build ends.
        """


class NoRemoteSources:
    """Refuses all of them."""

    def identity(self, source: RemoteSource) -> str | None:
        """Return None."""
        return None

    def fetch(self, source: RemoteSource) -> Fetched:
        """Raise BuildError."""
        place = source.url if isinstance(source, HttpFile) else source.remote
        raise BuildError(f"{place!r} can't be fetched: this build has no access to remote sources")
