"""pasta: the faster network in user space, IPv6 included (passt(1)), with the addresses that slirp4netns has."""

from __future__ import annotations

import os
import select
import subprocess

from ..host import which
from . import NetworkError
from .user_mode import ADDRESS, GATEWAY, PREFIX, RESOLVER, SECONDS, UserMode, die_with_parent, last_line

_NOTHING_FORWARDED = [word for flag in ("-t", "-u", "-T", "-U") for word in (flag, "none")]
"""No port of the machine leads into the step, and none of the step to the machine's loopback."""


class Pasta(UserMode):
    """Connects the network namespace of a process by a tap device. The host's loopback can't be reached from it."""

    def __init__(self, pid: int, bundle: str) -> None:
        super().__init__()
        path = which("pasta")
        if path is None:
            raise NetworkError("pasta was not found on PATH; install passt, or use --network host or none")
        self._log = os.path.join(bundle, "pasta.log")
        # It writes its process ID when the network is up: to a FIFO, so that it can be waited for.
        ready = os.path.join(bundle, "pasta.ready")
        os.mkfifo(ready, 0o600)
        reader = os.open(ready, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # It gives its powers up before it opens the namespace, and may not look at another process then.
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [path, *self._options(ready), "--netns", f"/proc/self/fd/{namespace}"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(namespace,),
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
                    cwd="/",
                )
        except OSError as error:
            os.close(reader)
            raise NetworkError(f"pasta can't be run: {error.strerror}") from None
        finally:
            os.close(namespace)
        self.pid = self._process.pid
        try:
            why = self._await(reader)
        finally:
            os.close(reader)
        if why:
            self.close()
            raise NetworkError(f"pasta could not connect the step: {why}")

    @staticmethod
    def _options(ready: str) -> list[str]:
        own = ["-a", ADDRESS, "-n", str(PREFIX), "-g", GATEWAY, "--dns-forward", RESOLVER, "-I", "tap0"]
        quiet = ["--no-map-gw", *_NOTHING_FORWARDED, "--no-ndp", "--no-dhcpv6", "--no-dhcp"]
        return ["--foreground", "--config-net", "--runas", "0:0", "-P", ready, *own, *quiet]

    def _await(self, reader: int) -> str:
        """The empty string when it is ready, or what it said."""
        ended = os.pidfd_open(self.pid)
        try:
            found = select.select((reader, ended), (), (), SECONDS)[0]
            if reader in found and os.read(reader, 32):
                return ""
            if not found:
                return f"it was not ready within {SECONDS:g} s"
            self._process.wait()
            return self.words()
        finally:
            os.close(ended)

    def words(self) -> str:
        """The last line of what it printed."""
        return last_line(self._log)

    def close(self) -> None:
        """Kill it, if it has not ended."""
        self._process.kill()
        self._process.wait()
