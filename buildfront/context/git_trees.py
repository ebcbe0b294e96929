"""The repositories that one build reads: asked once, fetched once, checked out once."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from run_step.ssh.proxy import Proxy

from ..errors import BuildError
from ..graph.git_reference import is_web, shown
from ..graph.step_graph import GitTree
from .fetch_limits import FetchLimits
from .git_checkout import check_out
from .git_commit import Resolved, fixed
from .git_program import Git
from .git_repository import Repository, resolve
from .secret_headers import header_value
from .workplace import Workplace

if TYPE_CHECKING:
    from run_step import Secret
    from run_step.ssh import Agent

_LONGEST_SOCKET = 100
_SHARED = ("https://github.com/", "https://www.github.com/")


class GitTrees:
    """Resolves and checks out trees. Methods may be called by several threads.

    ``secrets`` may have the tokens and headers for servers, ``agents`` the keys for ssh. ``check`` is called often, and
    may raise to end it.
    """

    def __init__(
        self,
        workplace: Workplace,
        limits: FetchLimits,
        secrets: Mapping[str, Secret],
        agents: Mapping[str, Agent],
        check: Callable[[], None],
    ) -> None:
        self._workplace = workplace
        self._limits = limits
        self._secrets = secrets
        self._agents = agents
        self._check = check
        self._stack = ExitStack()

    def resolve(self, tree: GitTree) -> Resolved:
        """Return what the ref of a tree stands for now. Raise BuildError if it can't be found."""
        if (known := fixed(tree)) is not None:
            return known
        with ExitStack() as stack:
            return resolve(self._git(tree.remote, stack), tree)

    def check_out(self, tree: GitTree, wanted: Resolved, *, commit_times: bool = False) -> str:
        """Return the path of a tree's files, which stay until :meth:`close`. Raise BuildError if they can't be had."""
        with ExitStack() as stack:
            git = self._git(tree.remote, stack)
            repository = Repository(self._workplace.store.root, git, tree.remote, self._check)
            self._stack.callback(repository.place.close)
            bare = repository.fetch(wanted, by_commit=tree.fetch_by_commit)
            return check_out(
                git,
                bare,
                wanted,
                tree.remote,
                self._workplace.directory("git"),
                subdir=tree.subdir,
                keep_git_dir=tree.keep_git_dir,
                submodules=tree.submodules,
                commit_times=commit_times,
            )

    def close(self) -> None:
        """End the use of the repositories."""
        self._stack.close()

    def _git(self, remote: str, stack: ExitStack) -> Git:
        agent = known_hosts = ""
        if not is_web(remote):
            known_hosts = os.path.join(self._workplace.store.root, "downloads", "known_hosts")
            os.makedirs(os.path.dirname(known_hosts), mode=0o700, exist_ok=True)
            agent = self._agent(remote, stack)
        config, words = self._login(remote)
        return Git(
            seconds=self._limits.seconds,
            check=self._check,
            config=config,
            secrets=words,
            agent=agent,
            known_hosts=known_hosts,
        )

    def _agent(self, remote: str, stack: ExitStack) -> str:
        """Return the path of a socket at which ssh finds the keys that ``--ssh default`` lends."""
        agent = self._agents.get("default")
        if agent is None:
            if os.environ.get("GIT_SSH_COMMAND"):
                return ""
            raise BuildError(
                f"the repository {shown(remote)} is read by ssh, and no keys are lent for it",
                hint="--ssh default lends the keys of your agent",
            )
        directory = self._workplace.directory("ssh")
        if len(os.fsencode(directory)) + len("/agent") > _LONGEST_SOCKET:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="buildfront-"))
        proxy = Proxy(directory, "agent", agent, mode=0o600, uid=os.geteuid(), gid=os.getegid())
        stack.callback(proxy.close)
        return proxy.path

    def _login(self, remote: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return git's configuration of the login to a remote, and the words in it that must not be shown."""
        if not remote.startswith(("http://", "https://")):
            return {}, ()
        authority = remote.partition("://")[2].partition("/")[0].rpartition("@")[2]
        for name, is_token in (
            (f"GIT_AUTH_HEADER.{authority}", False),
            (f"GIT_AUTH_TOKEN.{authority}", True),
            ("GIT_AUTH_HEADER", False),
            ("GIT_AUTH_TOKEN", True),
        ):
            secret = self._secrets.get(name)
            if secret is None:
                continue
            value = header_value(name, secret.data)
            words: tuple[str, ...] = (value,)
            if is_token:
                value = "basic " + base64.b64encode(f"x-access-token:{value}".encode()).decode()
                words += (value,)
            scope = next((prefix for prefix in _SHARED if remote.startswith(prefix)), remote)
            return {f"http.{scope}.extraheader": f"Authorization: {value}"}, words
        return {}, ()
