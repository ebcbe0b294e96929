"""Waits for processes in the supervised child, which serves one run and must notice the end of its builder.

Everything here waits on descriptors: a pidfd (pidfd_open(2)) and the run's socket. Nothing is polled. Hot
path: imports little.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from ..linux import process as p

if TYPE_CHECKING:
    from ..network import Network


class Cancelled(Exception):
    """The builder asked for the end, or has gone away."""


def until_ended(
    run: socket.socket, pid: int, seconds: float | None = None, *, beside: int = 0
) -> Literal["ended", "cancelled", "timeout", "beside"]:
    """Wait until the child ``pid`` has ended, the builder asks for the end or goes away, or ``seconds`` are over.

    The end of the child ``beside`` ends the wait too. Nothing is killed and nothing reaped.
    """
    pidfd = os.pidfd_open(pid)
    other = os.pidfd_open(beside) if beside else -1
    try:
        poller = select.poll()
        for fd in (pidfd, run.fileno(), *([other] if beside else [])):
            poller.register(fd, select.POLLIN)
        ready = dict(poller.poll(None if seconds is None else max(1, int(seconds * 1000))))
        if pidfd in ready:
            return "ended"
        if not ready:
            return "timeout"
        return "beside" if other in ready else "cancelled"
    finally:
        os.close(pidfd)
        if beside:
            os.close(other)


def kill(pid: int) -> None:
    """Send SIGKILL to a child that may have ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def died_of(number: int) -> str:
    """Return a text such as ``killed by SIGSEGV``."""
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def wait(run: socket.socket, pid: int, network: Network | None = None) -> dict[str, Any]:
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
    """Add the measurements of the step's control group, which include processes that rusage misses.

    rusage does not count processes that were not waited for.
    """
    if usage:
        answer |= usage
        answer["measured"] = "cgroup"


def become_subreaper() -> None:
    """Become the parent of processes that the step leaves behind (prctl(2), PR_SET_CHILD_SUBREAPER; row S72)."""
    p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(besides: Collection[int] = ()) -> None:
    """Kill the processes that the step left running, except the children ``besides``.

    They all become children of the subreaper in the end, so when there is none left to wait for, none runs
    any more.
    """
    me = str(os.getpid())
    while True:
        found = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat", "rb") as stream:
                    parent = name.isdigit() and stream.read().rpartition(b")")[2].split()[1].decode()
                if parent == me and int(name) not in besides:
                    found.append(int(name))
                    os.kill(int(name), signal.SIGKILL)
            except OSError:
                pass  # not a process, or one that has just ended
        if not found:
            return
        for pid in found:
            os.waitpid(pid, 0)  # its children are ours then
