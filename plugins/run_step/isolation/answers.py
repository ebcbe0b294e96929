"""The answer of the supervised child to the builder: how the step ended, and what it used."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from ..linux.children import kill, until_ended
from ..network.model import Network


def wait(run: socket.socket, pid: int, network: Network | None = None) -> dict[str, Any]:
    """Wait for the step's own process ``pid``, and return the first part of the answer.

    It is killed when the builder asks or goes away, or when the process that serves its ``network`` ends. Resource use
    is that of the process and of those it waited for (wait4(2)).
    """
    what = until_ended(run, pid, beside=network.pid if network is not None else 0)
    cancelled = what == "cancelled"
    if what != "ended":
        kill(pid)
    _, status, usage = os.wait4(pid, 0)
    lost = {}
    if what == "beside" and network is not None:
        lost = {"error": f"the step's network ended before the step did: {network.words()}"}
    return lost | {
        "status": os.waitstatus_to_exitcode(status),
        "cancelled": cancelled,
        "user_us": int(usage.ru_utime * 1e6),
        "system_us": int(usage.ru_stime * 1e6),
        "max_rss": usage.ru_maxrss * 1024,
        "measured": "rusage",
    }


def stopped() -> dict[str, Any]:
    """Return the answer of a run that was cancelled before the command began."""
    return {
        "status": -int(signal.SIGKILL),
        "cancelled": True,
        "user_us": 0,
        "system_us": 0,
        "max_rss": 0,
        "measured": "rusage",
    }


def add_usage(answer: dict[str, Any], usage: dict[str, int]) -> None:
    """Put in what the control group has measured: rusage misses processes that were not waited for."""
    if usage:
        answer |= usage
        answer["measured"] = "cgroup"
