"""slirp4netns: a network in user space, for those who may make none in the kernel (row S77, slirp4netns(1))."""

from __future__ import annotations

import os
import select
import subprocess

from ..host import which
from . import NetworkError
from .user_mode import SECONDS, UserMode, die_with_parent, last_line

MTU = "65520"


class Slirp4netns(UserMode):
    """Connects the network namespace of a process by a tap device. The host's loopback can't be reached from it."""

    def __init__(self, pid: int, bundle: str) -> None:
        super().__init__()
        path = which("slirp4netns")
        if path is None:
            raise NetworkError("slirp4netns was not found on PATH; install it, or use --network host or none")
        self._log = os.path.join(bundle, "slirp4netns.log")
        ready_r, ready_w = os.pipe()
        try:
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [
                        path,
                        "--mtu",
                        MTU,
                        "--disable-host-loopback",
                        "-r",
                        str(ready_w),
                        "-c",
                        str(pid),
                        "tap0",
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(ready_w,),
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
                    cwd="/",
                )
        except OSError as error:
            os.close(ready_r)
            raise NetworkError(f"slirp4netns can't be run: {error.strerror}") from None
        finally:
            os.close(ready_w)
        self.pid = self._process.pid
        try:
            # It writes a byte when the network is up; its end closes the pipe.
            ready = select.select((ready_r,), (), (), SECONDS)[0]
            if not (ready and os.read(ready_r, 1)):
                self.close()
                why = self.words() if ready else f"it was not ready within {SECONDS:g} s"
                raise NetworkError(f"slirp4netns could not connect the step: {why}")
        finally:
            os.close(ready_r)

    def words(self) -> str:
        """The last line of what it printed."""
        return last_line(self._log)

    def close(self) -> None:
        """Kill it, if it has not ended."""
        self._process.kill()
        self._process.wait()
