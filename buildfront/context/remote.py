"""All that one build reads from the network besides images: files of URLs, and trees of git."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..store.downloads import Place
from .fetch_limits import fetch_limits
from .git_trees import GitTrees, header_value
from .http_body import Report
from .http_file import Downloaded, HttpFiles
from .workplace import Workplace

if TYPE_CHECKING:
    from run_step import Secret
    from run_step.ssh import Agent


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
        limits = fetch_limits()
        self._files = HttpFiles(
            workplace.store.root,
            limits,
            credentials=self._credentials,
            check=self._checked,
            fresh=fresh,
        )
        self.trees = GitTrees(workplace, limits, secrets, agents, self._checked)

    def known(self, url: str, name: str, checksum: str) -> Downloaded | None:
        """Return the file that the store has, if it is still what the URL gives, or has the checksum."""
        place = self._place(url, name)
        if checksum:
            return self._files.kept(place, name, checksum)
        return self._files.unchanged(place, url, name)

    def download(self, url: str, name: str, checksum: str, report: Report) -> Downloaded:
        """Return the file of a URL, downloaded. Raise BuildError if it can't be had."""
        return self._files.download(self._place(url, name), url, name, checksum, report)

    def fetch(
        self, url: str, name: str, checksum: str = "", report: Report = lambda got, total: None
    ) -> Downloaded:
        """Return the file of a URL, downloaded if the store has not got it as it is now."""
        return self.known(url, name, checksum) or self.download(url, name, checksum, report)

    def abort(self) -> None:
        """Cut all connections."""
        self._files.abort()

    def close(self) -> None:
        """End it. What was fetched may be removed by others then."""
        self._files.close()
        self.trees.close()
        self._stack.close()

    def _checked(self) -> None:
        self.check()

    def _place(self, url: str, name: str) -> Place:
        place = self._files.place(url, name)
        self._stack.callback(place.close)
        return place

    def _credentials(self, host: str) -> str:
        for name, form in ((f"HTTP_AUTH_HEADER_{host}", "{}"), (f"HTTP_AUTH_TOKEN_{host}", "Bearer {}")):
            secret = self._secrets.get(name)
            if secret is not None:
                return form.format(header_value(name, secret.data))
        return ""
