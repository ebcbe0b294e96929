"""What slirp4netns and pasta have in common: a process of the user's own that serves one namespace."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from typing import Any

from ..isolation import waiting
from ..linux import process as p
from . import NetworkError

ADDRESS, GATEWAY, RESOLVER, PREFIX = "10.0.2.100", "10.0.2.2", "10.0.2.3", 24
"""What slirp4netns gives a namespace (slirp4netns(1)), and we ask of pasta."""

SECONDS = 30.0
"""How long one may take until it is ready."""


def die_with_parent() -> None:
    """For a child of ours, before it becomes the program."""
    p.prctl(p.PR_SET_PDEATHSIG, signal.SIGKILL)


def last_line(path: str) -> str:
    """The last line of a log, for an error."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = [line.strip() for line in stream if line.strip()]
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"


class UserMode:
    """The fields of :class:`run_step.network.Network` that both have. The host's loopback can't be reached, so the host
    has no address of its own in this network."""

    name: str
    process: subprocess.Popen[bytes]
    pid: int
    addresses: tuple[str, ...] = (ADDRESS,)
    gateways: tuple[str, ...] = ()

    def __init__(self, bundle: str) -> None:
        self.dns: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.log = os.path.join(bundle, f"{self.name}.log")

    def start(self, command: list[str], fds: tuple[int, ...]) -> None:
        """Raises NetworkError."""
        try:
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=fds,
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
                    cwd="/",
                )
        except OSError as error:
            raise NetworkError(f"{self.name} can't be run: {error.strerror}") from None
        self.pid = self.process.pid

    def await_ready(self, ready: int, run: socket.socket) -> None:
        """Until it writes to the descriptor ``ready``. Raises NetworkError with what it said, and Cancelled when the
        builder asks for the end or goes; it has ended then."""
        ended = os.pidfd_open(self.pid)
        try:
            found = select.select((ready, ended, run.fileno()), (), (), SECONDS)[0]
            if ready in found and os.read(ready, 32):
                return
        finally:
            os.close(ended)
        self.close()
        if run.fileno() in found:
            raise waiting.Cancelled
        why = self.words() if found else f"it was not ready within {SECONDS:g} s"
        raise NetworkError(f"{self.name} could not connect the step: {why}")

    def words(self) -> str:
        """The last line of what it printed."""
        return last_line(self.log)

    def close(self) -> None:
        """Kill it, if it has not ended."""
        self.process.kill()
        self.process.wait()
