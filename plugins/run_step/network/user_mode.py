"""What slirp4netns and pasta have in common: a process of the user's own that serves one namespace."""

from __future__ import annotations

import signal
from typing import Any

from ..linux import process as p

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

    addresses: tuple[str, ...] = (ADDRESS,)
    gateways: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.dns: dict[str, Any] = {}
        self.warnings: list[str] = []
