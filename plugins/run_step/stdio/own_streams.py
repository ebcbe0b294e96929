"""Our own stdout and stderr as the receiver of a step's output.

A reader that does not read holds up the step, as in any pipeline. It does not hold up the end of the step: a blocked
write(2) would be retried after a signal (PEP 475), and would know of no time limit. So nothing here blocks in a write.
"""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TextIO

_LOOK = 0.1
"""Seconds between two checks whether the step has to end."""
_GRACE = 2.0
"""Seconds that a reader has after that."""
_TTYAUX = 5
"""The major number of /dev/tty and /dev/ptmx, which are another terminal for whoever opens them again."""


class Patience:
    """The time that a blocked write has: no limit until ``ended`` returns true, and a moment after that."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        self.ended = ended
        self._last: float | None = None

    def is_over(self) -> bool:
        """Whether the rest of the data has to be dropped."""
        if self.ended() and self._last is None:
            self._last = time.monotonic() + _GRACE
        return self._last is not None and time.monotonic() >= self._last


class OwnStreams:
    """A receiver of output that writes to our stdout and stderr, and drops what they don't take in time.

    ``patience`` says how long they have. After that, ``dropped`` is true, and nothing waits any more. Raises OSError
    where a stream can't be written, for example BrokenPipeError.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.dropped = False

    def __call__(self, stream: str, data: bytes) -> None:
        """Write ``data`` to ``stdout`` or ``stderr``, without a buffer."""
        target = self._target(stream)
        if target is None:
            return  # closed before this program was started
        target.flush()
        try:
            fd = target.fileno()
        except io.UnsupportedOperation:  # a program has put an object of its own there
            target.buffer.write(data)
            target.buffer.flush()
            return
        with ExitStack() as stack:
            if not write_all(fd, _sender(fd, stack), data, self.patience):
                self.dropped = True

    @staticmethod
    def _target(stream: str) -> TextIO | None:
        return sys.stdout if stream == "stdout" else sys.stderr


def write_all(fd: int, send: Callable[[memoryview], int], data: bytes, patience: Patience) -> bool:
    """Write ``data`` with ``send``, which raises BlockingIOError instead of waiting; ``fd`` is waited for.

    Returns False where patience came to its end before that. Raises OSError.
    """
    left = memoryview(data)
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    while left:
        try:
            left = left[send(left) :]
            continue
        except BlockingIOError:
            pass
        if patience.is_over():
            return False
        poller.poll(_LOOK * 1000)
    return True


def _sender(fd: int, stack: ExitStack) -> Callable[[memoryview], int]:
    """Return a function that writes a part of its data to ``fd``, and raises BlockingIOError instead of waiting.

    ``fd`` itself is not made non-blocking: other processes have the same open file, and would see that.
    """
    status = os.fstat(fd)
    if stat.S_ISSOCK(status.st_mode):
        sock = stack.enter_context(socket.socket(fileno=os.dup(fd)))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)
    is_pipe = stat.S_ISFIFO(status.st_mode)
    if not is_pipe and not os.isatty(fd):
        return lambda data: os.write(fd, data)  # it never waits for a reader
    if is_pipe or os.major(status.st_rdev) != _TTYAUX:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            again = os.open(f"/proc/self/fd/{fd}", flags)
        except OSError:
            pass  # another user's, or without a reader
        else:
            stack.callback(os.close, again)
            return lambda data: os.write(again, data)
    return lambda data: _write_some(fd, data)


def _write_some(fd: int, data: memoryview) -> int:
    """Write as much as a pipe takes for certain once it is writable (pipe(7), PIPE_BUF)."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    if not poller.poll(0):
        raise BlockingIOError
    return os.write(fd, data[: select.PIPE_BUF])
