"""Our own terminal while a step has one: raw, its size watched, and always restored (row S75).

The module knows nothing of steps. If we are not in the foreground of a terminal, it is not changed: a change
would stop this process.
"""

from __future__ import annotations

import os
import signal
import termios
import threading
import tty
from typing import Any

from ..linux import pty


def is_terminal(fd: int) -> bool:
    """Whether ``fd`` is an open terminal."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def size_of(fds: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the columns and rows of the first of ``fds`` that is a terminal with a size; None without one."""
    for fd in fds:
        try:
            columns, rows = pty.size(fd)
        except OSError:
            continue
        if columns and rows:
            return columns, rows
    return None


class OurTerminal:
    """A context in which our terminal is raw, and is restored at the end.

    ``changed`` is a descriptor that becomes readable when the size may have changed, or -1. It is -1 in a
    thread other than the main one, which receives no signal; the size must be polled then.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.changed = -1
        self._writer = -1
        self._saved: list[Any] | None = None
        self._previous: Any = None

    def __enter__(self) -> OurTerminal:
        if threading.current_thread() is threading.main_thread():
            self.changed, self._writer = os.pipe()
            os.set_blocking(self.changed, False)
            os.set_blocking(self._writer, False)
            self._previous = signal.signal(signal.SIGWINCH, self._resized)
        try:
            if os.tcgetpgrp(self.fd) == os.getpgrp():
                self._saved = termios.tcgetattr(self.fd)
                tty.setraw(self.fd, termios.TCSANOW)
        except OSError:
            self._saved = None  # the terminal of another session
        return self

    def _resized(self, number: int, frame: object) -> None:
        try:
            os.write(self._writer, b"w")
        except BlockingIOError:
            pass  # the pipe is full of the same message

    def clear(self) -> None:
        """Read the messages from ``changed``."""
        try:
            os.read(self.changed, 4096)
        except BlockingIOError:
            pass

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(self.fd, termios.TCSANOW, self._saved)
        if self._writer >= 0:
            signal.signal(signal.SIGWINCH, self._previous)
            os.close(self.changed)
            os.close(self._writer)
