"""Snapshots as whole trees, for machines that can't mount an overlay. They are slower and larger, and always work."""

from __future__ import annotations

import os

from run_step import copy_tree, remove_tree

from ...image.diff import Comparison
from .interface import View


class CopyActive:
    """A whole copy of the parent's tree."""

    def __init__(self, work: str, lineage: list[str]) -> None:
        self._work = work
        self._snapshot = os.path.join(work, "snapshot")
        self.path = os.path.join(self._snapshot, "fs")
        os.makedirs(self.path)
        os.chmod(self.path, 0o755)  # whatever our umask
        if lineage:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            parent = os.path.join(lineage[0], "fs")
            source, target = os.open(parent, flags), os.open(self.path, flags)
            try:
                copy_tree(source, target)
            finally:
                os.close(source)
                os.close(target)
        # Files that change from here on have a change time that is not before this file's.
        with open(os.path.join(self._snapshot, "since"), "x", encoding="ascii"):
            pass

    def finish(self) -> str:
        """Return the directory that becomes the snapshot; nothing of it is mounted any more."""
        return self._snapshot

    def discard(self) -> None:
        """Throw the changes away."""
        remove_tree(self._work)


class CopyDriver:
    """A :class:`~buildfront.store.snapshots.Driver`."""

    name = "copy"

    def prepare(self, work: str, lineage: list[str]) -> CopyActive:
        """Make a writable root filesystem in ``work``, on ``lineage``."""
        return CopyActive(work, lineage)

    def view(self, work: str, lineage: list[str]) -> View:
        """Make a root filesystem to read in ``work``."""
        return View(os.path.join(lineage[0], "fs") if lineage else work)

    def comparison(self, directory: str) -> tuple[str, Comparison]:
        """Return the tree of a finished snapshot, and the way to compare it with its parent's view."""
        since = os.stat(os.path.join(directory, "since")).st_mtime_ns
        return os.path.join(directory, "fs"), Comparison(complete=True, since_ns=since)
