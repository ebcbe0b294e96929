"""The answer of the supervised child to the builder: how the step ended, and what it used."""

from __future__ import annotations

import os
import signal
import socket
from typing import cast

from ..linux.children import kill, until_ended
from ..network.model import Network
from ..run_protocol import Answer


def wait(run: socket.socket, pid: int, network: Network | None = None) -> Answer:
    """Wait for the step's own process ``pid``; return the first part of the answer.

    Kill the process when the builder asks for it or goes away, or when the process that serves its
    ``network`` ends. The resource use is that of the process and of the children that it waited for
    (wait4(2)).
    """
    what = until_ended(run, pid, beside=network.pid if network is not None else 0)
    cancelled = what == "cancelled"
    if what != "ended":
        kill(pid)
    _, status, usage = os.wait4(pid, 0)
    answer: Answer = {
        "status": os.waitstatus_to_exitcode(status),
        "cancelled": cancelled,
        "user_us": int(usage.ru_utime * 1e6),
        "system_us": int(usage.ru_stime * 1e6),
        "max_rss": usage.ru_maxrss * 1024,
        "measured": "rusage",
    }
    if what == "beside" and network is not None:
        answer["error"] = f"the step's network ended before the step did: {network.words()}"
    return answer


def stopped() -> Answer:
    """Return the answer of a run that was cancelled before the command began."""
    return {
        "status": -int(signal.SIGKILL),
        "cancelled": True,
        "user_us": 0,
        "system_us": 0,
        "max_rss": 0,
        "measured": "rusage",
    }


def add_usage(answer: Answer, usage: dict[str, int]) -> None:
    """Add the measurements of the step's control group, which include processes that rusage misses.

    rusage does not count processes that were not waited for.
    """
    if usage:
        answer.update(cast(Answer, usage))
        answer["measured"] = "cgroup"
