"""The parent process of all steps: started once, single-threaded and small; it forks one child for each RUN.

A builder may be any program with any threads, and forking those is not safe; starting an interpreter for each
step is slow. So one is started for the builder, and it forks. Each child serves one run over a socket: it
reads the parts of the plan, sets the step up, reports, and waits. When the other end of the socket is closed,
for whatever reason the builder ended, the child kills the step: no step outlives its builder.

The child is the subreaper of an OCI container's init, so the program that uses the plugin as a library never
has a child that it did not make (row S72).

Hot path: imports little, and all of it before the first fork, so that no child has to import anything.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import sys
from typing import Protocol

from .isolation import oci
from .isolation.chroot import launch
from .linux import process as p
from .linux.children import end_descendants
from .run_protocol import LIBRARY, MOST_FDS, Answer, Job, receive, send
from .secret_files import unpack


class Held(Protocol):
    """An object that is kept from one run to the next."""

    def release(self) -> None:
        """Release it. Never raises."""

    def forget(self) -> None:
        """Close its descriptors in a forked process, which must not keep it."""


def main() -> None:
    """Serve until the control socket on descriptor 0 closes."""
    held: list[Held] = []
    try:
        _serve_all(held)
    finally:
        for one in held:
            one.release()


def _hold(library: str) -> list[Held]:
    """Load the built-in network once, in the process from which every run is forked, and hold it between runs."""
    try:
        sys.path.append(library)
        from .network.bridge import Hold  # it loads pyroute2

        return [Hold()]
    except Exception:  # noqa: BLE001 - the run that needs it reports the error
        return []


def _serve_all(held: list[Held]) -> None:
    control = socket.socket(fileno=0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the builder decides what an interrupt means
    p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)
    children: dict[int, tuple[int, int]] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poller.poll()]
        for fd in ready:
            if fd in children:
                pid, run = children.pop(fd)
                poller.unregister(fd)
                os.close(fd)
                _, status = os.waitpid(pid, 0)
                if status:  # it was killed; what it had started is ours now
                    end_descendants(besides={one for one, _ in children.values()})
                os.close(run)
        if control.fileno() not in ready:
            continue
        data, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(MOST_FDS * 4))
        if not data:
            return
        if data == LIBRARY:
            held += _hold(os.fsdecode(receive(control)))
            continue
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        pid = os.fork()
        if pid == 0:
            control.close()
            for one in held:
                one.forget()
            for pidfd, (_, run) in children.items():
                os.close(pidfd)
                os.close(run)
            status = 70
            try:
                serve(list(fds))
                status = 0
            finally:
                os._exit(status)
        pidfd = os.pidfd_open(pid)
        children[pidfd] = pid, fds[0]
        poller.register(pidfd, select.POLLIN)
        for fd in fds[1:]:
            os.close(fd)


def serve(fds: list[int]) -> None:
    """Serve one run.

    ``fds`` are its socket, the step's stdin, stdout and stderr, the socket to send a terminal through if it
    has one, and the file of its secrets if it has some.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    run = socket.socket(fileno=fds[0])
    for fd in fds:
        os.set_inheritable(fd, False)
    job: Job = json.loads(receive(run))
    answer: Answer
    streams = tuple(fds[1:])
    try:
        if "secrets" in job:
            unpack(job, streams[-1])
            streams = streams[:-1]
        # Only held open: they end with this process.
        streams = streams[: len(streams) - job.get("locks", 0)]
        perform = launch.run if job["isolation"] == "chroot" else oci.run
        answer = perform(run, job, streams)
    except Exception as error:  # noqa: BLE001 - the builder must receive any error
        answer = {"error": str(error) or type(error).__name__}
    try:
        send(run, answer)
    except OSError:
        pass  # the builder is gone; the step has been killed


if __name__ == "__main__":
    sys.stdin = None
    main()
