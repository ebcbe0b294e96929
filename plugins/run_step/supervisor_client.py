"""The builder's side of the supervisor: start the process that steps hang on, and hand runs to it."""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import threading

from .errors import HostError
from .run_protocol import LENGTH, LIBRARY, RUN, Job, send


class Supervisor:
    """The parent process of all steps (``run_step.supervisor``), started when first needed.

    It may be used by several threads at once. Close it when the build ends. If the builder dies, the
    supervisor and every step end with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._has_library = False

    def start(self) -> socket.socket:
        """Return the control socket; start the process if it is not running."""
        with self._lock:
            if self._control is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                package = os.path.dirname(os.path.abspath(__file__))
                boot = f"import sys; sys.path.insert(0, {os.path.dirname(package)!r}); "
                boot += "from run_step.supervisor import main; main()"
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", boot],
                    stdin=theirs.fileno(),
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,
                )
                theirs.close()
                self._control = ours
            return self._control

    def spawn(self, job: Job, streams: tuple[int, ...]) -> socket.socket:
        """Start one run; return its socket, on which the answer comes. Closing the socket kills the step."""
        control = self.start()
        library = os.fsencode(job["network"]["library"]) if "network" in job else b""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        fds = array.array("i", [theirs.fileno(), *streams])
        try:
            try:
                with self._lock:
                    if library and not self._has_library:
                        control.sendall(LIBRARY + LENGTH.pack(len(library)) + library)
                        self._has_library = True
                    control.sendmsg([RUN], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            finally:
                theirs.close()
            send(ours, job)
        except ConnectionError:
            ours.close()
            raise HostError("the steps' supervisor has ended; was it killed?") from None
        except BaseException:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End the process; runs that still go on are killed when their own sockets are closed."""
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._process is not None:
                self._process.wait()
                self._process = None
            self._has_library = False

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
