"""Remote sources for one build: each fetched once, and several at the same time."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from ..context.downloaded import Downloaded, file_name
from ..context.git_commit import Resolved, fixed
from ..context.remote import Remote
from ..graph.step_graph import GitTree, HttpFile
from ..sizes import decimal_size
from .cancellation import Cancellation, Cancelled
from .remote_sources import Fetched, RemoteSource

_TOGETHER = 6
_POLL = 0.1
_PAUSE = 5.0
"""Seconds between two lines about a transfer."""

Job = concurrent.futures.Future[Fetched | None]


class Fetching:
    """Implements :class:`~buildfront.engine.remote_sources.RemoteSources`. ``close`` it at the end."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._cancel = Cancellation()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._looks: dict[RemoteSource, Job] = {}
        self._fetches: dict[RemoteSource, Job] = {}
        self._resolved: dict[GitTree, Resolved] = {}
        self._progress: dict[RemoteSource, str] = {}
        remote.check = self._check

    def watch(self, cancel: Cancellation) -> None:
        """Stop whatever is under way when the build is to stop."""
        self._cancel = cancel

    def look(self, sources: Iterable[RemoteSource]) -> None:
        """Begin to find the identities of sources, side by side."""
        for source in sources:
            if not pinned(source):
                self._job(self._looks, source, self._look)

    def begin(self, sources: Iterable[RemoteSource]) -> None:
        """Begin to fetch sources, side by side."""
        for source in sources:
            self._job(self._fetches, source, self._fetch)

    def identity(self, source: RemoteSource) -> str | None:
        """Return the identity of what the source is now; None where it has to be fetched to know it."""
        if (known := pinned(source)) is not None:
            return known
        found = self._wait(self._job(self._looks, source, self._look))
        return None if found is None else found.identity

    def fetch(self, source: RemoteSource, report: Callable[[str], None] = lambda text: None) -> Fetched:
        """Return the source, fetched if it is not here already. Raise BuildError where it can't be had."""
        told = partial(self._tell, source, report)
        found = self._wait(self._job(self._fetches, source, self._fetch), told)
        assert found is not None
        return found

    def close(self) -> None:
        """Stop what is under way."""
        self._stopped.set()
        self._remote.abort()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _job(
        self,
        jobs: dict[RemoteSource, Job],
        source: RemoteSource,
        function: Callable[[RemoteSource], Fetched | None],
    ) -> Job:
        with self._lock:
            if source not in jobs:
                if self._pool is None:
                    self._pool = concurrent.futures.ThreadPoolExecutor(_TOGETHER, "buildfront-fetch")
                jobs[source] = self._pool.submit(function, source)
            return jobs[source]

    def _wait(self, job: Job, tick: Callable[[], None] = lambda: None) -> Fetched | None:
        began = time.monotonic()
        try:
            while not job.done():
                concurrent.futures.wait((job,), _POLL)
                self._cancel.check()
                if time.monotonic() - began > _PAUSE:
                    began = time.monotonic()
                    tick()
        except BaseException:  # an interrupt, too
            self._stopped.set()
            self._remote.abort()
            raise
        return job.result()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Cancelled
        self._cancel.check()

    def _tell(self, source: RemoteSource, report: Callable[[str], None]) -> None:
        report(self._progress.get(source, "waiting for the server"))

    def _note(self, source: RemoteSource, got: int, total: int | None) -> None:
        self._check()
        self._progress[source] = decimal_size(got) + (
            f" of {decimal_size(total)}" if total is not None else ""
        )

    def _look(self, source: RemoteSource) -> Fetched | None:
        """Return the identity, with a path only if the files are here; None if only fetching gives it."""
        if isinstance(source, GitTree):
            return Fetched("", "", git_identity(source, self._resolve(source)))
        name = file_name(source.url)
        known = self._remote.known(source.url, name, source.checksum)
        return None if known is None else _file(source, name, known)

    def _fetch(self, source: RemoteSource) -> Fetched:
        if isinstance(source, GitTree):
            wanted = self._resolve(source)
            return Fetched(self._remote.trees.check_out(source, wanted), "", git_identity(source, wanted))
        name = file_name(source.url)
        with self._lock:
            look = self._looks.get(source)
        if look is not None and (known := self._wait(look)) is not None:
            return known
        found = self._remote.fetch(source.url, name, source.checksum, partial(self._note, source))
        return _file(source, name, found)

    def _resolve(self, source: GitTree) -> Resolved:
        """Return what a ref stands for, which is the same for the whole build."""
        with self._lock:
            known = self._resolved.get(source)
        if known is None:
            found = self._remote.trees.resolve(source)
            with self._lock:
                known = self._resolved.setdefault(source, found)
        return known


def _file(source: HttpFile, name: str, found: Downloaded) -> Fetched:
    identity = pinned(source) or f"http {found.digest} {found.mtime} {name}"
    return Fetched(os.path.abspath(found.directory), name, identity)


def pinned(source: RemoteSource) -> str | None:
    """Return the identity of a source that its text determines; None if the server has to be asked."""
    if isinstance(source, HttpFile):
        return f"http {source.checksum} {file_name(source.url)}" if source.checksum else None
    found = fixed(source)
    return None if found is None else git_identity(source, found)


def git_identity(source: GitTree, found: Resolved) -> str:
    """Return the identity of a tree. The names of repository and ref are parts of it only if ``.git`` is kept."""
    parts = [found.commit]
    if source.keep_git_dir and not source.subdir:
        parts = [found.object, "git", source.remote, found.name]
    parts += [f"subdir={source.subdir}", "" if source.submodules else "no submodules"]
    return "git " + "\n".join(parts)
