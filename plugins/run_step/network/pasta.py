"""The network mode pasta: faster than slirp4netns, with IPv6 (passt(1)), and with the same IPv4 addresses."""

from __future__ import annotations

import os
import socket

from ..helper_programs import which
from ..network_terms import USER_ADDRESS, USER_GATEWAY, USER_PREFIX, USER_RESOLVER
from .model import NetworkError
from .sysctls import set_sysctls
from .user_mode import UserMode, name_servers

_NOTHING_FORWARDED = [word for flag in ("-t", "-u", "-T", "-U") for word in (flag, "none")]
"""Options that forward no port of the machine into the step, and none of the step to the machine's loopback."""


class Pasta(UserMode):
    """The pasta network of one step: a tap device. The step can't reach the host's loopback."""

    name = "pasta"

    def __init__(self, pid: int, bundle: str, run: socket.socket) -> None:
        super().__init__(bundle)
        path = which("pasta")
        if path is None:
            raise NetworkError("pasta was not found on PATH; install passt, or use --network host or none")
        # No other host can have the addresses and they are needed at once, so duplicates are not looked for
        # (RFC 4862, 5.4).
        set_sysctls({"net.ipv6.conf.default.accept_dad": "0"}, pid)
        # pasta writes its process ID when the network is up. The file is a FIFO, so that we can wait for it.
        ready = os.path.join(bundle, "pasta.ready")
        os.mkfifo(ready, 0o600)
        reader = os.open(ready, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # pasta drops its privileges before it opens the namespace, and may not look at another process
            # after that.
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
    """Whether the step asks the network's own resolver.

    If pasta has a resolver, all answers of the machine's name server seem to come from it. A step that asks
    that server directly would not accept them.
    """
    return USER_RESOLVER in (name_servers(bundle) or ())
