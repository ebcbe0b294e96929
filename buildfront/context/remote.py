"""All that one build reads from the network besides images: files of URLs, and trees of git."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..store.downloads import Place
from .downloaded import Downloaded, Report
from .fetch_limits import fetch_limits
from .secret_headers import header_value
from .workplace import Workplace

if TYPE_CHECKING:
    from run_step import Secret
    from run_step.ssh import Agent

    from .git_trees import GitTrees
    from .http_file import HttpFiles


class Remote:
    """Fetches for one build. Methods may be called by several threads. ``close`` it at the end.

    With ``fresh`` nothing that the store has is used. ``check`` is called often and may raise to end a transfer; it can
    be replaced.
    """

    def __init__(
        self,
        workplace: Workplace,
        *,
        secrets: Mapping[str, Secret],
        agents: Mapping[str, Agent],
        fresh: bool = False,
    ) -> None:
        self.check: Callable[[], None] = lambda: None
        self._workplace = workplace
        self._secrets = secrets
        self._stack = ExitStack()
        self._agents = agents
        self._fresh = fresh
        self._limits = fetch_limits()
        self._lock = threading.Lock()
        self._places: dict[tuple[str, str], Place] = {}
        self._files: HttpFiles | None = None
        self._trees: GitTrees | None = None

    @property
    def files(self) -> HttpFiles:
        """The files of URLs."""
        from .http_file import HttpFiles  # loads httpcore

        with self._lock:
            if self._files is None:
                self._files = HttpFiles(
                    self._workplace.store.root,
                    self._limits,
                    credentials=self._credentials,
                    check=self._checked,
                    fresh=self._fresh,
                )
                self._stack.callback(self._files.close)
            return self._files

    @property
    def trees(self) -> GitTrees:
        """The trees of git."""
        from .git_trees import GitTrees  # loads subprocess

        with self._lock:
            if self._trees is None:
                self._trees = GitTrees(
                    self._workplace, self._limits, self._secrets, self._agents, self._checked
                )
                self._stack.callback(self._trees.close)
            return self._trees

    def known(self, url: str, name: str, checksum: str) -> Downloaded | None:
        """Return the file that the store has, if it is still what the URL gives, or has the checksum."""
        place = self._place(url, name)
        if checksum:
            return self.files.kept(place, name, checksum)
        return self.files.unchanged(place, url, name)

    def download(self, url: str, name: str, checksum: str, report: Report) -> Downloaded:
        """Return the file of a URL, downloaded. Raise BuildError if it can't be had."""
        return self.files.download(self._place(url, name), url, name, checksum, report)

    def fetch(
        self, url: str, name: str, checksum: str = "", report: Report = lambda got, total: None
    ) -> Downloaded:
        """Return the file of a URL, downloaded if the store has not got it as it is now."""
        return self.known(url, name, checksum) or self.download(url, name, checksum, report)

    def abort(self) -> None:
        """Cut all connections."""
        if self._files is not None:
            self._files.abort()

    def close(self) -> None:
        """End it. What was fetched may be removed by others then."""
        self._stack.close()

    def _checked(self) -> None:
        self.check()

    def _place(self, url: str, name: str) -> Place:
        files = self.files
        with self._lock:
            if (url, name) not in self._places:
                self._places[url, name] = files.place(url, name)
                self._stack.callback(self._places[url, name].close)
            return self._places[url, name]

    def _credentials(self, host: str) -> str:
        for name, form in ((f"HTTP_AUTH_HEADER_{host}", "{}"), (f"HTTP_AUTH_TOKEN_{host}", "Bearer {}")):
            secret = self._secrets.get(name)
            if secret is not None:
                return form.format(header_value(name, secret.data))
        return ""
