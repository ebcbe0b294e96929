"""Directories for what a build fetches and unpacks before its steps run."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from ..store.image_store import Session, Store


class Workplace:
    """A session of the store that begins when it is first needed. ``close`` removes everything.

    Without a store nothing can be made.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._session: Session | None = None

    @property
    def store(self) -> Store:
        """The store. Raises AssertionError where there is none."""
        assert self._store is not None, "this needs a store"
        return self._store

    def directory(self, kind: str) -> str:
        """Make a new directory, and return its path."""
        with self._lock:
            if self._session is None:
                self._session = self._stack.enter_context(self.store.session())
            return self._session.directory(kind)

    def close(self) -> None:
        """Remove the directories."""
        self._stack.close()
