"""Runs the program git, in an environment of our own: no shell, no configuration of others, no hooks, no questions.

Only http, https, ssh and git are spoken, for submodules too, whatever a repository says.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from ..errors import BuildError
from ..graph.git_reference import PROTOCOLS
from ..text import visible

_OUTPUT = 64 << 20
"""The most bytes that a command may print."""
_SHOWN = 2000
_GRACE = 5.0
"""Seconds that a git which is stopped has to tidy up."""

_CONFIG = {
    "advice.detachedHead": "false",
    "core.askPass": "",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.logAllRefUpdates": "false",
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "init.defaultBranch": "master",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
}

_PASSED = ("PATH", *(f"{name}_proxy" for name in ("http", "https", "no", "all")))


class GitFailed(Exception):
    """A command of git failed. ``text`` is the end of its error output."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    @property
    def reason(self) -> str:
        """The lines that say why, for an error message."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        marked = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))]
        return visible("; ".join(marked[-3:] or lines[-2:]) or "git gives no reason", 500)


class Git:
    """Runs commands. ``config`` is added to git's; ``secrets`` are not shown. ``check`` may raise to end a command."""

    def __init__(
        self,
        *,
        seconds: float,
        check: Callable[[], None] = lambda: None,
        config: Mapping[str, str] | None = None,
        secrets: tuple[str, ...] = (),
        agent: str = "",
        known_hosts: str = "",
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._seconds = seconds
        self._check = check
        self._secrets = secrets
        self._environ = _environment({**_CONFIG, **(config or {})}, agent, known_hosts, environ)

    def run(
        self, *args: str, git_dir: str = "", work_tree: str = "", local: bool = False, cwd: str | None = None
    ) -> str:
        """Return what a command prints. Raise GitFailed; BuildError if git is missing or takes too long.

        ``local``: only repositories on this machine are read.
        """
        command = ["git"]
        if git_dir:
            command.append(f"--git-dir={git_dir}")
        if work_tree:
            command.append(f"--work-tree={work_tree}")
        environ = {**self._environ, "GIT_ALLOW_PROTOCOL": "file" if local else ":".join(PROTOCOLS)}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(
                    [*command, *args],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=environ,
                    cwd=cwd or work_tree or git_dir or "/",
                    umask=0o022,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise BuildError(
                    "the program git is missing", hint="install it, for instance with apt"
                ) from None
            except OSError as error:
                raise BuildError(f"the program git can't be started: {error.strerror}") from None
            try:
                self._wait(process, args[0], (out, err))
            except BaseException:
                _end(process)
                raise
            if process.returncode != 0:
                raise GitFailed(self._clean(_tail(err)))
            out.seek(0)
            return out.read().decode("utf-8", "surrogateescape")

    def _wait(self, process: subprocess.Popen[bytes], name: str, outputs: tuple[IO[bytes], ...]) -> None:
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                process.wait(0.1)
                return
            except subprocess.TimeoutExpired:
                self._check()
            if any(os.fstat(stream.fileno()).st_size > _OUTPUT for stream in outputs):
                raise BuildError(f"git {name} prints more than {_OUTPUT >> 20} MiB")
            if time.monotonic() > deadline:
                raise BuildError(
                    f"git {name} takes longer than {self._seconds:.0f} seconds",
                    hint="BUILDFRONT_FETCH_TIMEOUT allows more",
                )

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "xxxxx")
        return text


def _environment(
    config: Mapping[str, str], agent: str, known_hosts: str, environ: Mapping[str, str]
) -> dict[str, str]:
    made = {name: environ[name] for name in environ if name in _PASSED or name.lower() in _PASSED}
    made.setdefault("PATH", os.defpath)
    made |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_SSH_COMMAND": environ.get("GIT_SSH_COMMAND") or _ssh(known_hosts),
        "GIT_TERMINAL_PROMPT": "0",
        "HOME": os.devnull,
        "LC_ALL": "C",
    }
    if authorities := environ.get("SSL_CERT_FILE"):
        made["GIT_SSL_CAINFO"] = authorities
    if agent:
        made["SSH_AUTH_SOCK"] = agent
    made["GIT_CONFIG_COUNT"] = str(len(config))
    for number, (key, value) in enumerate(config.items()):
        made[f"GIT_CONFIG_KEY_{number}"] = key
        made[f"GIT_CONFIG_VALUE_{number}"] = value
    return made


def _ssh(known_hosts: str) -> str:
    """Return the command for ssh. A host that is not known yet is noted; one whose key has changed is refused."""
    user = os.path.expanduser("~/.ssh/known_hosts")
    files = " ".join(f'"{path}"' for path in (known_hosts, user) if path and '"' not in path)
    words = ["ssh", "-F", os.devnull, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
    return shlex.join([*words, "-o", f"UserKnownHostsFile={files}"])


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _SHOWN))
    return stream.read().decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a command, and the helpers that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return
