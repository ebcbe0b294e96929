"""The process that steps hang on: started once, single-threaded, light; it forks one child for each RUN.

A builder may be any program with any threads, and forking those is not safe; starting an interpreter for
each step is slow. So one is started for the builder, and it forks. Each child serves one run over a socket:
it reads the plan's parts, sets the step up, reports, and waits. When the other end of the socket goes, for
whatever reason the builder ended, the child kills the step: nothing outlives its builder.

The child is the subreaper of an OCI container's init, so the program that uses the plugin as a library
never has a child that it did not make (row S72).

Hot path: imports little.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any

from .linux import mount as m
from .linux import process as p

LENGTH = struct.Struct("!I")


def main() -> None:
    """Serve until the control socket on descriptor 0 closes."""
    control = socket.socket(fileno=0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the builder decides what an interrupt means
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children report over their own sockets
    while True:
        data, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(16))
        if not data:
            return
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if os.fork() == 0:
            control.close()
            status = 70
            try:
                serve(list(fds))
                status = 0
            finally:
                os._exit(status)
        for fd in fds:
            os.close(fd)


def serve(fds: list[int]) -> None:
    """One run: the run's socket and the step's stdin, stdout and stderr."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    run = socket.socket(fileno=fds[0])
    for fd in fds:
        os.set_inheritable(fd, False)
    job = json.loads(_receive(run))
    streams = (fds[1], fds[2], fds[3])
    try:
        answer = _chroot(run, job, streams) if job["isolation"] == "chroot" else _oci(run, job, streams)
    except Exception as error:  # noqa: BLE001 - whatever it is, the builder must hear of it
        answer = {"error": str(error) or type(error).__name__}
    try:
        send(run, answer)
    except OSError:
        pass  # the builder is gone; the step has been killed


def send(sock: socket.socket, value: Any) -> None:
    """One length-prefixed JSON message."""
    raw = json.dumps(value).encode()
    sock.sendall(LENGTH.pack(len(raw)) + raw)


def _receive(sock: socket.socket) -> bytes:
    size = LENGTH.unpack(_exactly(sock, LENGTH.size))[0]
    return _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError("the builder went away")
        data += chunk
    return data


def _wait(run: socket.socket, pid: int) -> dict[str, Any]:
    """Wait for ``pid``; kill it when the builder goes away or asks (any byte, or the end of the socket)."""
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(run, select.POLLIN)
    cancelled = False
    while True:
        ready = dict(poller.poll())
        if pidfd in ready:
            break
        cancelled = True
        poller.unregister(run)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    _, status, usage = os.wait4(pid, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "cancelled": cancelled,
        "user_us": int(usage.ru_utime * 1e6),
        "system_us": int(usage.ru_stime * 1e6),
        "max_rss": usage.ru_maxrss * 1024,
    }


def _chroot(run: socket.socket, job: dict[str, Any], streams: tuple[int, int, int]) -> dict[str, Any]:
    from .isolation.chroot import sandbox

    spec = job["spec"]
    p.prctl(p.PR_SET_PDEATHSIG, 0)
    private = any(item["type"] == "pid" and not item.get("path") for item in spec["linux"]["namespaces"])
    if private:
        m.unshare(m.CLONE_NEWPID)
    else:
        p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)  # no init dies here that would take its namespace with it
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        message = "the sandbox ended without a word"
        try:
            os.set_inheritable(writer, False)
            for number, fd in enumerate(streams):
                os.dup2(fd, number, inheritable=True)
            top = max(writer, 3)
            if writer != 3:
                os.dup2(writer, 3, inheritable=False)
                writer = 3
            p.prctl(p.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.closerange(4, max(top, *streams, run.fileno(), 64) + 64)
            sandbox.enter(spec, job["rootfs"])
            sandbox.become(spec, bytes.fromhex(job.get("seccomp", "")))
        except BaseException as error:  # noqa: BLE001 - reported to the parent, the only one who can tell
            message = str(error) or type(error).__name__
        os.write(writer, message.encode()[:4000])
        os._exit(127)
    os.close(writer)
    for fd in streams:
        os.close(fd)
    words = b""
    while chunk := os.read(reader, 4096):
        words += chunk
    os.close(reader)
    result = _wait(run, pid)
    if not private:
        _end_descendants()
    if words and not result["cancelled"]:
        result["setup"] = words.decode("utf-8", "replace")
    return result


def _end_descendants() -> None:
    """Kill what the step left running; as the subreaper we are the parent of it all in the end."""
    me = str(os.getpid())
    while True:
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat", "rb") as stream:
                    if name.isdigit() and stream.read().rpartition(b")")[2].split()[1].decode() == me:
                        os.kill(int(name), signal.SIGKILL)
            except OSError:
                pass  # no process, or one that has just ended
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        select.select((), (), (), 0.001)


def _oci(run: socket.socket, job: dict[str, Any], streams: tuple[int, int, int]) -> dict[str, Any]:
    from .isolation import oci

    p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)
    path = oci.find(job["runtime"])
    if path is None:
        return {"error": f"the OCI runtime {job['runtime']!r} was not found on PATH"}
    bundle = job["bundle"]
    oci.write_config(bundle, job["spec"])
    container = oci.Container(path, job["runtime_flags"], job["state"], bundle, job["container_id"])
    try:
        pid = container.create(streams, job["no_pivot"])
        for fd in streams:
            os.close(fd)
        container.start()
        return _wait(run, pid)
    finally:
        container.delete()


if __name__ == "__main__":
    sys.stdin = None
    main()
