"""Digests of what COPY reads, so that a file is read again only when it has changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from run_step import Root

from ..errors import BuildError
from ..graph.step_graph import CopyOp
from ..store.image_store import Store
from . import cache_key
from .model import Context, Result

if TYPE_CHECKING:
    from ..steps.select import Selection

_RACY_NS = 50_000_000
"""A file that changed less than this ago may change once more without its times telling: they go by the tick of a
clock. It is waited for before such a file is read."""

_SECOND_NS = 1_000_000_000
_COARSE_NS = 2 * _SECOND_NS
"""The same on a filesystem that knows no part of a second."""

_TRIES = 4
"""How often files that change are read again before that is an error."""

Found = tuple[str, "list[Selection]"]
"""A digest, and what it was made of."""


class ContentDigests:
    """Contexts are digested with a memory of each file's status; stages by their step's key and snapshot."""

    def __init__(self, store: Store, contexts: Mapping[str, Context]) -> None:
        self._store = store
        self._contexts = contexts
        self.check: Callable[[], None] = lambda: None
        """Called often while files are hashed; may raise to end it."""
        self._lock = threading.Lock()
        self._fresh: list[tuple[int, int, int, int, int, str]] = []
        self._digests: dict[tuple[str, tuple[str, ...]], Found] = {}

    @property
    def selected(self) -> Mapping[tuple[str, tuple[str, ...]], list[Selection]]:
        """What was selected, by the name of the context and the sources."""
        return {place: found[1] for place, found in self._digests.items()}

    def known(self, op: CopyOp, source: Result | None) -> str | None:
        """The digest where it can be had now: always for a context (None), for a stage's result when it was kept."""
        if source is not None:
            return self.of_step(op.sources, source)
        return self.of_context(op)[0]

    def of_step(self, sources: tuple[str, ...], result: Result) -> str | None:
        """The digest of what ``sources`` select from a step's result, when it was kept."""
        return self._store.catalogue.content(result.key, result.snapshot, cache_key.selector(sources))

    def of_context(self, op: CopyOp) -> Found:
        """The digest of what a COPY from a context reads, and the selection that it stands for, which is what has to be
        copied. Both are as they were at the first look, until :meth:`look_again`.

        Raises BuildError for a source that is not in the context, that can't be read, or that never rests.
        """
        from ..steps.select import Changed

        place = (op.origin.name, op.sources)
        with self._lock:
            found = self._digests.get(place)
        left = _TRIES
        while found is None:
            left -= 1
            try:
                found = self._look(op)
            except Changed:
                if not left:
                    raise
        with self._lock:
            return self._digests.setdefault(place, found)

    def look_again(self, op: CopyOp, found: Found) -> None:
        """Forget what :meth:`of_context` gave, because something of it has changed since."""
        place = (op.origin.name, op.sources)
        with self._lock:
            if self._digests.get(place) is found:
                del self._digests[place]

    def _look(self, op: CopyOp) -> Found:
        from ..steps.select import digest, select

        context = self._contexts[op.origin.name]
        what = f"build context {op.origin.name!r}" if op.origin.name else "build context"
        try:
            with Root(context.path) as root:
                selections = select(
                    root, op.sources, excludes=context.excludes, prune=context.prune, what=what
                )
                value = digest(root, selections, self._hash, owners=False, known=self._known)
                return value, selections
        except OSError as error:
            raise BuildError(
                f"{error.filename or '/'!r} in the {what} can't be read: {error.strerror}",
                hint="change its mode, or let .dockerignore leave it out"
                if isinstance(error, PermissionError)
                else "let .dockerignore leave it out",
            ) from None

    def of_tree(
        self, sources: tuple[str, ...], root: Root, result: Result, what: str = "stage it is copied from"
    ) -> Found:
        """The digest of what ``sources`` select from a step's result, kept for the next time."""
        from ..steps.select import digest, hash_fd, select

        selections = select(root, sources, what=what)
        value = digest(root, selections, partial(hash_fd, check=self.check), owners=True)
        self._store.catalogue.set_content(result.key, result.snapshot, cache_key.selector(sources), value)
        return value, selections

    def _known(self, status: os.stat_result) -> str | None:
        """The digest of a file of a context that was hashed when it had this very status."""
        return self._store.catalogue.file(*_identity(status))

    def _hash(self, fd: int, status: os.stat_result) -> str:
        """The digest of a file of a context. Its status is no proof where it changed just now, so that is waited for:
        from then on no change can hide, now, until it is copied, and in later builds."""
        from ..steps.select import hash_fd, is_same

        rest = _unsettled(status.st_ctime_ns, time.time_ns())
        if rest:
            time.sleep(rest / _SECOND_NS)
        value = hash_fd(fd, status, self.check)
        if is_same(os.fstat(fd), status):
            with self._lock:
                self._fresh.append((*_identity(status), value))
        return value

    def save(self) -> None:
        """Keep what was hashed."""
        with self._lock:
            rows, self._fresh = self._fresh, []
        if rows:
            self._store.catalogue.set_files(rows)


def _identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _unsettled(ctime_ns: int, now_ns: int) -> int:
    """For how long a change could still get the very change time that a file has. For one that lies further ahead, by
    a clock that was put back or another machine's, never: a change now would tell."""
    racy = _RACY_NS if ctime_ns % _SECOND_NS else _COARSE_NS
    age = now_ns - ctime_ns
    return racy - age if -racy < age < racy else 0
