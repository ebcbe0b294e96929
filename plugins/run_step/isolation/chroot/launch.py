"""The parent's half of the embedded sandbox: fork the child that becomes the step, wait for it, clean up after it.

It runs in the supervised child (see :mod:`run_step.supervisor`). With a PID or user namespace of the step's
own there are two children. The first makes the namespaces and, for a user namespace, the mounts that need the
builder's privileges. The second is born in the namespaces and becomes the step. The first ends at once; we
are the subreaper, so the second becomes our child.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from ...linux import children
from ...linux import mount as m
from ...linux import process as p
from ...network.connect import connect
from ...network.model import Network, NetworkError
from ...run_protocol import Answer, Job
from .. import answers
from ..cgroup import CgroupError, Group
from .sandbox import Sandbox

_WORDS, _CONSOLE, _PID, _GATE, _PARENT = 3, 4, 5, 6, 7
"""The child's descriptors after its standard streams: a pipe for messages; the socket for a terminal; with
two children, a pipe for the second child's process ID, and one whose end tells that the first has ended; a
socket to the parent, on which the child waits until its network is connected and, before the command, until
it is in its group.
"""


def run(run_socket: socket.socket, job: Job, streams: tuple[int, ...]) -> Answer:
    """Run one step. ``streams`` are stdin, stdout, stderr and, for a terminal, the socket to send it through."""
    spec = job["spec"]
    children.become_subreaper()
    parent = spec["linux"].get("cgroupsPath", "")
    try:
        group = Group.create(job["container_id"], spec["linux"].get("resources", {}), parent)
    except CgroupError as error:
        return {"error": str(error)}
    try:
        group.note(job["bundle"])
        answer = _run(run_socket, job, streams, group)
        answers.add_usage(answer, group.usage())
        return answer
    finally:
        group.kill()
        children.end_descendants()
        group.remove()


def _run(run_socket: socket.socket, job: Job, streams: tuple[int, ...], group: Group) -> Answer:
    sandbox = Sandbox(job["spec"], job["rootfs"])
    # The process that makes a PID namespace is not in it, but all its later children are, and the namespace's
    # init can't end before they have been waited for. So a child of ours makes the namespace, and ends before
    # the step begins.
    two = sandbox.maps_ids or sandbox.namespaces.get("pid") == ""
    words_r, words_w = os.pipe()
    pid_r, pid_w = os.pipe()
    gate_r, gate_w = os.pipe()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        console = streams[3] if len(streams) > 3 else -1
        _child(sandbox, job, two, (*streams[:3], words_w, console, pid_w, gate_r, theirs.fileno()))
    theirs.close()
    for fd in (words_w, pid_w, gate_r, *streams):
        os.close(fd)
    if two:
        text = b""
        while chunk := os.read(pid_r, 64):
            text += chunk
        _, status = os.waitpid(pid, 0)
        pid = int(text) if text and not status else 0
    os.close(pid_r)
    os.close(gate_w)
    network: Network | None = None
    refused = ""
    try:
        if pid:
            refused = _add(group, pid)  # the child makes its namespaces and mounts meanwhile
            if job.get("network") and not refused and ours.recv(1):
                network = connect(job, pid, run_socket)
                _tell(ours)
            if not refused:
                _tell(ours)
        ours.close()
        words = b""
        while chunk := os.read(words_r, 4096):
            words += chunk
        result = answers.wait(run_socket, pid, network) if pid else answers.stopped() | {"cancelled": False}
    except NetworkError as error:
        return {"error": str(error)}
    except children.Cancelled:
        return answers.stopped()
    finally:
        os.close(words_r)
        if network is not None:
            network.close()
    warnings, _, message = words.decode("utf-8", "replace").rpartition("\0")
    result["warnings"] = [line for line in warnings.split("\0") if line]
    result["warnings"] += network.warnings if network is not None else []
    if (message or refused) and not result["cancelled"]:
        result["setup"] = message or refused
    return result


def _add(group: Group, pid: int) -> str:
    """Put the step into its group; return the error if the group has limits that the step must not run without."""
    try:
        group.add(pid)
    except OSError as error:
        if group.limited:
            return f"the step can't be put into its cgroup: {error.strerror}"
    return ""


def _child(sandbox: Sandbox, job: Job, two: bool, fds: tuple[int, ...]) -> None:
    """Set the sandbox up and become the step; never returns.

    Writes to the pipe for messages: each warning with a null byte behind it, then the error, if any.
    """
    message = "the sandbox ended without a message"
    words = fds[3]
    try:
        _arrange(fds)
        words = _WORDS
        _die_with_parent(words)
        sandbox.join()
        if two:
            if sandbox.maps_ids:
                sandbox.enter_user_namespace()
            else:
                m.unshare(m.CLONE_NEWPID)
            pid = os.fork()
            if pid:
                os.write(_PID, str(pid).encode())
                os._exit(0)
            os.close(_PID)
            os.read(_GATE, 1)  # until the first child has ended, and our parent is the one that waits
            _die_with_parent(words)
        os.closerange(_PID, _GATE + 1)
        parent = socket.socket(fileno=_PARENT)
        sandbox.enter((lambda: _await(parent, b"n")) if job.get("network") else None)
        if job.get("terminal"):
            sandbox.open_terminal(_CONSOLE, *job["terminal"])
        for warning in sandbox.warnings:
            os.write(words, warning.encode() + b"\0")
        _await(parent)
        sandbox.become(bytes.fromhex(job.get("seccomp", "")))
    except BaseException as error:  # noqa: BLE001 - only the parent can report it to the user
        message = str(error) or type(error).__name__
    os.write(words, message.encode(errors="replace")[:4000])
    os._exit(127)


def _tell(child: socket.socket) -> None:
    """Let the child go on."""
    try:
        child.send(b"g")
    except OSError:
        pass  # it has ended, and has reported why


def _await(parent: socket.socket, word: bytes = b"") -> None:
    """Tell the parent that we are ready, and wait for its answer; end silently when the parent gives up.

    The parent reports the reason.
    """
    if word:
        parent.send(word)
    if not parent.recv(1):
        os._exit(1)


def _arrange(fds: tuple[int, ...]) -> None:
    """Put the descriptors at 0, 1, 2 and so on, those after 2 closed by an exec, and close all others."""
    first = max(*fds, len(fds)) + 1
    aside = []
    for fd in fds:
        if fd < 0:
            aside.append(-1)
            continue
        os.dup2(fd, first, inheritable=False)
        aside.append(first)
        first += 1
    for number, fd in enumerate(aside):
        if fd >= 0:
            os.dup2(fd, number, inheritable=number < 3)
        else:
            os.closerange(number, number + 1)
    os.closerange(len(fds), 1 << 20)


def _die_with_parent(words: int) -> None:
    """Ask for SIGKILL when the parent ends, and end at once if it has ended already."""
    p.prctl(p.PR_SET_PDEATHSIG, signal.SIGKILL)
    poller = select.poll()
    poller.register(words, 0)
    if poller.poll(0):
        os._exit(1)  # there is no reader any more
