"""Where the sources of COPY and ADD come from."""

from __future__ import annotations

from typing import Protocol


class Context(Protocol):
    """A directory that COPY reads: the build context or a named one."""

    @property
    def path(self) -> str:
        """The directory."""

    def excludes(self, path: str) -> bool:
        """Return whether this path counts as absent."""

    @property
    def prune(self) -> bool:
        """Whether excluded directories need not be entered."""
