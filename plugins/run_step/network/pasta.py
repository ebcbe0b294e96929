"""pasta: the faster network in user space, IPv6 included (passt(1)), with the addresses that slirp4netns has."""

from __future__ import annotations

import os
import socket

from ..helper_programs import which
from ..network_terms import USER_ADDRESS, USER_GATEWAY, USER_PREFIX, USER_RESOLVER
from .model import NetworkError
from .sysctls import set_sysctls
from .user_mode import UserMode, name_servers

_NOTHING_FORWARDED = [word for flag in ("-t", "-u", "-T", "-U") for word in (flag, "none")]
"""No port of the machine leads into the step, and none of the step to the machine's loopback."""


class Pasta(UserMode):
    """Connects the network namespace of a process by a tap device. The host's loopback can't be reached from it."""

    name = "pasta"

    def __init__(self, pid: int, bundle: str, run: socket.socket) -> None:
        super().__init__(bundle)
        path = which("pasta")
        if path is None:
            raise NetworkError("pasta was not found on PATH; install passt, or use --network host or none")
        # The addresses are the step's alone, and needed at once: nobody else is asked for them (RFC 4862, 5.4).
        set_sysctls({"net.ipv6.conf.default.accept_dad": "0"}, pid)
        # It writes its process ID when the network is up: to a FIFO, so that it can be waited for.
        ready = os.path.join(bundle, "pasta.ready")
        os.mkfifo(ready, 0o600)
        reader = os.open(ready, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # It gives its powers up before it opens the namespace, and may not look at another process then.
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                command = [path, *self._options(ready, bundle), "--netns", f"/proc/self/fd/{namespace}"]
                self.start(command, (namespace,))
            finally:
                os.close(namespace)
            self.await_ready(reader, run)
        finally:
            os.close(reader)

    @staticmethod
    def _options(ready: str, bundle: str) -> list[str]:
        own = ["-a", USER_ADDRESS, "-n", str(USER_PREFIX), "-g", USER_GATEWAY, "-I", "tap0"]
        # Neighbours are answered for (NDP), routers and leases not: the addresses are set.
        quiet = ["--no-map-gw", *_NOTHING_FORWARDED, "--no-ra", "--no-dhcpv6", "--no-dhcp"]
        forward = ["--dns-forward", USER_RESOLVER] if _is_asked(bundle) else []
        return ["--foreground", "--config-net", "--runas", "0:0", "-P", ready, *own, *forward, *quiet]


def _is_asked(bundle: str) -> bool:
    """Whether the step asks the network's own resolver. Where pasta has one, it lets every answer of the machine's name
    server come from it, so that a step that asks that server itself would not take the answer."""
    return USER_RESOLVER in (name_servers(bundle) or ())
