"""The common part of slirp4netns and pasta: a process of the user's own that serves one namespace."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from typing import Any

from ..linux.children import Cancelled, die_with_parent, died_of
from ..network_terms import USER_ADDRESS
from .model import NetworkError

SECONDS = 30.0
"""The limit for the start of the process, in seconds."""


def name_servers(bundle: str) -> list[str] | None:
    """Return the name servers of the resolv.conf that is made for the step; None if the step has another file."""
    try:
        with open(os.path.join(bundle, "files", "resolv.conf"), encoding="utf-8", errors="replace") as stream:
            return [line.split()[1] for line in stream if line.startswith("nameserver ")]
    except FileNotFoundError:
        return None


TUN = "/dev/net/tun"
"""The device that makes tap devices (Linux, Documentation/networking/tuntap.rst)."""


def why_no_tun() -> str:
    """Return why this process can't make tap devices, and a remedy; the empty string if it can."""
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return (
            f"{TUN} can't be opened: {error.strerror}; load the kernel module tun, give a container the device, or "
            "let this user read and write it"
        )
    return ""


_CHATTER = ("sent tapfd=", "received tapfd=", "Failed to send ")
"""Beginnings of lines without information: descriptors of slirp4netns, and pasta's note that it finds no syslog."""


def last_lines(path: str, start: int = 0) -> str:
    """Return the last two useful lines of a log after the offset ``start``, for an error message."""
    try:
        with open(path, "rb") as stream:
            stream.seek(start)
            lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines()]
    except OSError:
        lines = []
    return "; ".join([line for line in lines if line and not line.startswith(_CHATTER)][-2:])


class UserMode:
    """The common fields of both networks; see :class:`run_step.network.Network`.

    The step can't reach the host's loopback, so the host has no address of its own in this network.
    """

    name: str
    process: subprocess.Popen[bytes]
    pid: int
    addresses: tuple[str, ...] = (USER_ADDRESS,)
    gateways: tuple[str, ...] = ()

    def __init__(self, bundle: str) -> None:
        self.dns: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.log = os.path.join(bundle, f"{self.name}.log")
        self._told = 0  # size of the log, in bytes, when the start was over

    def start(self, command: list[str], fds: tuple[int, ...]) -> None:
        """Start the process. Raises NetworkError."""
        if why := why_no_tun():
            raise NetworkError(f"{self.name} needs a tap device, but {why}; or use --network host or none")
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
        """Wait until the process writes to the descriptor ``ready``.

        Raises NetworkError with the process's output, and Cancelled when the builder asks for the end or goes
        away. The process has ended then.
        """
        ended = os.pidfd_open(self.pid)
        watched = [ready, ended, run.fileno()]
        try:
            found = select.select(watched, (), (), SECONDS)[0]
            if ready in found:
                if os.read(ready, 32):
                    self._told = os.path.getsize(self.log)
                    return
                watched.remove(ready)  # closed without a byte: the process is about to end
                found = select.select(watched, (), (), SECONDS)[0]
        finally:
            os.close(ended)
        self.close()
        if run.fileno() in found:
            raise Cancelled
        why = f"it {self._end()}" if found else f"it was not ready within {SECONDS:g} s"
        raise NetworkError(f"{self.name} could not connect the step: {why}")

    def words(self) -> str:
        """Return the process's name, what ended it, and its last output. Waits for its end."""
        return f"{self.name} {self._end()}"

    def _end(self) -> str:
        status = self.process.wait()
        how = f"was {died_of(-status)}" if status < 0 else f"ended with exit status {status}"
        said = last_lines(self.log, self._told)
        return f"{how}: {said}" if said else how

    def close(self) -> None:
        """Kill the process, if it has not ended."""
        self.process.kill()
        self.process.wait()
