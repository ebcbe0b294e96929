"""Digests of the files that COPY reads; a file is read again only when it has changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from run_step import Root

from ..context import Context
from ..errors import BuildError
from ..graph.step_graph import Origin
from ..store.image_store import Store
from . import cache_key
from .result import Result
from .selection import Changed, Selection, Wanted, is_same, select
from .selection_digest import digest, hash_fd

_RACY_NS = 50_000_000
"""A file that changed less than this ago may change once more and keep its times, which go by the tick of a clock.
Such a file is read after that time."""

_SECOND_NS = 1_000_000_000
_COARSE_NS = 2 * _SECOND_NS
"""The same on a filesystem whose times are whole seconds."""

_TRIES = 4
"""How often files that change are read again before that is an error."""

Found = tuple[str, list[Selection]]
"""A digest, and the selected files that it was made of."""


class ContentDigests:
    """Remembers digests: of the files of contexts by their status, of stages by their step's key and snapshot."""

    def __init__(self, store: Store, contexts: Mapping[str, Context]) -> None:
        self._store = store
        self._contexts = contexts
        self.check: Callable[[], None] = lambda: None
        """Called often while files are hashed; may raise to end it."""
        self._lock = threading.Lock()
        self._fresh: list[tuple[int, int, int, int, int, str]] = []
        self._digests: dict[tuple[str, Wanted], Found] = {}

    @property
    def selected(self) -> Mapping[tuple[str, Wanted], list[Selection]]:
        """The selected files, by the name of the context and what was wanted of it."""
        return {place: found[1] for place, found in self._digests.items()}

    def known(self, origin: Origin, want: Wanted, source: Result | None) -> str | None:
        """Return the digest where it is known.

        For a context (``source`` None) it always is, for the result of a stage when it was kept.
        """
        if source is not None:
            return self.of_step(want, source)
        return self.of_context(origin.name, want)[0]

    def of_step(self, want: Wanted, result: Result) -> str | None:
        """Return the digest of the files that are wanted of a step's result, where it was kept."""
        return self._store.catalogue.content(result.key, result.snapshot, cache_key.selector(*want))

    def of_context(self, name: str, want: Wanted) -> Found:
        """Return the digest of the files that a COPY from a context reads, and the files.

        These are the files to copy. Both are as they were at the first look, until :meth:`look_again`.

        Raise BuildError for a source that is not in the context, that can't be read, or that keeps changing.
        """
        place = (name, want)
        with self._lock:
            found = self._digests.get(place)
        left = _TRIES
        while found is None:
            left -= 1
            try:
                found = self._look(name, want)
            except Changed:
                if not left:
                    raise
        with self._lock:
            return self._digests.setdefault(place, found)

    def look_again(self, name: str, want: Wanted, found: Found) -> None:
        """Forget what :meth:`of_context` returned, because some of it has changed since."""
        place = (name, want)
        with self._lock:
            if self._digests.get(place) is found:
                del self._digests[place]

    def _look(self, name: str, want: Wanted) -> Found:
        context = self._contexts[name]
        what = f"build context {name!r}" if name else "build context"
        try:
            with Root(context.path) as root:
                selections = select(root, want, excludes=context.excludes, prune=context.prune, what=what)
                value = digest(root, selections, self._hash, owners=False, known=self._known)
                return value, selections
        except OSError as error:
            raise BuildError(
                f"{error.filename or '/'!r} in the {what} can't be read: {error.strerror}",
                hint="change its mode, or let .dockerignore leave it out"
                if isinstance(error, PermissionError)
                else "let .dockerignore leave it out",
            ) from None

    def of_tree(self, want: Wanted, root: Root, result: Result, what: str) -> Found:
        """Return the digest of the files that are wanted of a step's result, and keep it.

        ``what`` is the name of the result in messages.
        """
        selections = select(root, want, what=what)
        value = digest(root, selections, partial(hash_fd, check=self.check), owners=True)
        self._store.catalogue.set_content(result.key, result.snapshot, cache_key.selector(*want), value)
        return value, selections

    def _known(self, status: os.stat_result) -> str | None:
        """Return the digest of a file of a context that was hashed when it had the same status."""
        return self._store.catalogue.file(*_identity(status))

    def _hash(self, fd: int, status: os.stat_result) -> str:
        """Return the digest of a file of a context.

        Where the file changed just now, its status proves nothing, so wait first: from then on no change can hide,
        until it is copied and in later builds.
        """
        rest = _unsettled(status.st_ctime_ns, time.time_ns())
        if rest:
            time.sleep(rest / _SECOND_NS)
        value = hash_fd(fd, status, self.check)
        if is_same(os.fstat(fd), status):
            with self._lock:
                self._fresh.append((*_identity(status), value))
        return value

    def save(self) -> None:
        """Keep the digests of the files that were hashed."""
        with self._lock:
            rows, self._fresh = self._fresh, []
        if rows:
            self._store.catalogue.set_files(rows)


def _identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _unsettled(ctime_ns: int, now_ns: int) -> int:
    """Return for how long a change could still get the change time that a file has, in nanoseconds.

    A time that lies further ahead, from a clock that was put back or another machine's, needs no waiting: a change now
    would show.
    """
    racy = _RACY_NS if ctime_ns % _SECOND_NS else _COARSE_NS
    age = now_ns - ctime_ns
    return racy - age if -racy < age < racy else 0
