"""Child processes of the supervised child, which serves one run and must learn of its builder's end.

Everything here waits on descriptors: a pidfd (pidfd_open(2)) and the run's socket. Nothing is polled. Hot
path: imports little.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Collection
from typing import Literal

from .process import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl


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


def become_subreaper() -> None:
    """Become the parent of processes that the step leaves behind (prctl(2), PR_SET_CHILD_SUBREAPER; row S72)."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends; for a child, before it becomes another program."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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
