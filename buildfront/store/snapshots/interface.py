"""The interface of the snapshot drivers."""

from __future__ import annotations

from typing import Protocol

from ...image.diff import Comparison
from .overlay_mount import unmount


class Active(Protocol):
    """A root filesystem that is being changed."""

    path: str

    def finish(self) -> str:
        """End the changes: unmount what is mounted, and return the directory that becomes the snapshot."""

    def discard(self) -> None:
        """Throw the changes away."""


class View:
    """A root filesystem to read, with the number of mounts that it has at ``path``. Close it when done."""

    def __init__(self, path: str, mounts: int = 0) -> None:
        self.path = path
        self._mounts = mounts

    def close(self) -> None:
        """Unmount the root filesystem if it is mounted."""
        unmount(self.path, self._mounts)
        self._mounts = 0

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Driver(Protocol):
    """A way to keep snapshots."""

    name: str

    def prepare(self, work: str, lineage: list[str]) -> Active:
        """Make a writable root filesystem in the empty directory ``work``.

        It lies on ``lineage``, the directories of snapshots, topmost first.
        """

    def view(self, work: str, lineage: list[str]) -> View:
        """Make a root filesystem to read in the empty directory ``work``; nothing may be written to it."""

    def comparison(self, directory: str) -> tuple[str, Comparison]:
        """Return the tree of a finished snapshot, and the way to compare it with its parent's view."""
