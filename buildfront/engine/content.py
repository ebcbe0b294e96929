"""Digests of what COPY reads, so that a file is read again only when it has changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from run_step import Root

from ..errors import BuildError
from ..graph.model import CopyOp
from ..store import Store
from . import cache
from .model import Context

if TYPE_CHECKING:
    from ..steps.select import Selection

_RACY_NS = 50_000_000
"""A file changed less than this before it was hashed may change again without its times telling."""


class ContentDigests:
    """Contexts are digested with a memory of each file's status; stages by their step's key."""

    def __init__(self, store: Store, contexts: Mapping[str, Context]) -> None:
        self._store = store
        self._contexts = contexts
        self._lock = threading.Lock()
        self._fresh: list[tuple[int, int, int, int, int, str]] = []
        self.selected: dict[tuple[str, tuple[str, ...]], list[Selection]] = {}

    def known(self, op: CopyOp, source_key: str) -> str | None:
        """The digest where it can be had now: always for a context, for a stage when it was kept."""
        if op.origin.kind == "step":
            return self.of_step(op.sources, source_key)
        return self.of_context(op)

    def of_step(self, sources: tuple[str, ...], key: str) -> str | None:
        """The digest of what ``sources`` select from a step's result, when it was kept."""
        return self._store.catalogue.content(key, cache.selector(sources))

    def of_context(self, op: CopyOp) -> str:
        """Raises BuildError for a source that is not in the context, or that can't be read."""
        from ..steps.select import digest

        with Root(self._contexts[op.origin.name].path) as root:
            try:
                return digest(root, self.select(op, root), self._hash, owners=False)
            except PermissionError as error:
                raise BuildError(
                    f"{error.filename or '/'!r} in the {self._what(op)} can't be read: {error.strerror}",
                    hint="change its mode, or let .dockerignore leave it out",
                ) from None

    @staticmethod
    def _what(op: CopyOp) -> str:
        return f"build context {op.origin.name!r}" if op.origin.name else "build context"

    def select(self, op: CopyOp, root: Root) -> list[Selection]:
        """What a COPY from a context selects."""
        from ..steps.select import select

        place = (op.origin.name, op.sources)
        with self._lock:
            found = self.selected.get(place)
        if found is None:
            context = self._contexts[op.origin.name]
            found = select(
                root, op.sources, excludes=context.excludes, prune=context.prune, what=self._what(op)
            )
            with self._lock:
                self.selected[place] = found
        return found

    def of_tree(
        self, sources: tuple[str, ...], root: Root, source_key: str, what: str = "stage it is copied from"
    ) -> tuple[str, list[Selection]]:
        """The digest of what ``sources`` select from a step's result, kept for the next time."""
        from ..steps.select import digest, hash_fd, select

        selections = select(root, sources, what=what)
        value = digest(root, selections, hash_fd, owners=True)
        self._store.catalogue.set_content(source_key, cache.selector(sources), value)
        return value, selections

    def _hash(self, fd: int, status: os.stat_result) -> str:
        from ..steps.select import hash_fd

        status = os.fstat(fd)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        found = self._store.catalogue.file(*identity)
        if found is not None:
            return found
        value = hash_fd(fd, status)
        after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            raise BuildError(
                "a file of the build context changed while it was read", hint="build again when it is done"
            )
        if time.time_ns() - status.st_ctime_ns > _RACY_NS:
            with self._lock:
                self._fresh.append((*identity, value))
        return value

    def save(self) -> None:
        """Keep what was hashed."""
        with self._lock:
            rows, self._fresh = self._fresh, []
        if rows:
            self._store.catalogue.set_files(rows)
