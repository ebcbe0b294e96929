"""The network mode slirp4netns: a network in user space, for unprivileged users (row S77, slirp4netns(1))."""

from __future__ import annotations

import os
import socket

from ..helper_programs import which
from .model import NetworkError
from .user_mode import UserMode

MTU = "65520"


class Slirp4netns(UserMode):
    """The slirp4netns network of one step: a tap device. The step can't reach the host's loopback."""

    name = "slirp4netns"

    def __init__(self, pid: int, bundle: str, run: socket.socket) -> None:
        super().__init__(bundle)
        path = which("slirp4netns")
        if path is None:
            raise NetworkError("slirp4netns was not found on PATH; install it, or use --network host or none")
        # slirp4netns writes a byte when the network is up.
        ready_r, ready_w = os.pipe()
        words = ["--mtu", MTU, "--disable-host-loopback", "-r", str(ready_w), "-c", str(pid), "tap0"]
        try:
            try:
                self.start([path, *words], (ready_w,))
            finally:
                os.close(ready_w)
            self.await_ready(ready_r, run)
        finally:
            os.close(ready_r)
