"""The relay between a step and the receiver of its output (row S74).

One loop in one thread: output is read when there is some, input is written when there is room, so neither
waits for the other. The loop ends when the supervisor has answered that the step is over. A process that was
left behind with an open stream does not delay it.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
import time
from contextlib import ExitStack
from typing import Any

from ..contract import Output
from ..linux import pty
from ..run_protocol import LENGTH
from .own_terminal import OurTerminal, is_terminal, size_of

_CHUNK = 1 << 16
_LOOK = 0.2
"""Seconds between two checks for what can't be waited for: a cancelling event, a size without a signal."""
_MOST_LEFT = 512
"""Chunks that a pipe may hold when a step ends: 32 MiB, where root can make a pipe of 1 MiB and more."""
_END_OF_FILE = b"\x04"  # VEOF of a terminal in its usual mode (termios(3))


class Pump:
    """The input on its way into the step: one chunk at a time, so that no more is read than the step may want.

    ``source`` is borrowed. ``target`` is ours, and is closed at the end of the input. A terminal instead gets
    an end-of-file character once, as if typed; a later read from it waits.
    """

    def __init__(self, selector: selectors.BaseSelector, source: int, target: int, *, is_pty: bool) -> None:
        self.selector = selector
        self.source, self.target = source, target
        self.is_pty = is_pty
        self._buffer = b""
        self._ended = False
        self._at_line_start = True
        self.always = False
        """Whether the source is always ready: a regular file can't be waited for."""
        os.set_blocking(target, False)
        self._watch_source()

    def _watch_source(self) -> None:
        try:
            self.selector.register(self.source, selectors.EVENT_READ, self)
        except PermissionError:
            self.always = True

    def _forget(self, fd: int) -> None:
        try:
            self.selector.unregister(fd)
        except (KeyError, ValueError):
            pass  # it was not watched just now

    def step(self) -> None:
        """Move the data that can be moved now."""
        if not self._buffer:
            try:
                self._buffer = os.read(self.source, _CHUNK)
            except OSError:
                self._buffer = b""  # the terminal has gone
            if not self._buffer:
                if not self.is_pty or self._ended:
                    self.close()
                    return
                self._ended = True
                # After an unfinished line, the first end-of-file character only passes that line on.
                self._buffer = _END_OF_FILE * (1 if self._at_line_start else 2)
            else:
                self._at_line_start = self._buffer.endswith(b"\n")
        try:
            self._buffer = self._buffer[os.write(self.target, self._buffer) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()  # there is no reader any more
            return
        if self._buffer:
            self._forget(self.source)
            self.always = False
            try:
                self.selector.register(self.target, selectors.EVENT_WRITE, self)
            except KeyError:
                if not self.is_pty:
                    return
                key = self.selector.get_key(self.target)
                self.selector.modify(self.target, key.events | selectors.EVENT_WRITE, key.data)
        elif self._ended:
            self.close()
        else:
            self._target_done()
            self._watch_source_again()

    def _target_done(self) -> None:
        if not self.is_pty:
            self._forget(self.target)
            return
        key = self.selector.get_map().get(self.target)
        if key is not None and key.events & selectors.EVENT_WRITE:
            self.selector.modify(self.target, selectors.EVENT_READ, key.data)

    def _watch_source_again(self) -> None:
        if not self.always and self.selector.get_map().get(self.source) is None:
            self._watch_source()

    def close(self) -> None:
        """End the input."""
        self._forget(self.source)
        self.always = False
        if self.target >= 0:
            if self.is_pty:
                self._target_done()
            else:
                self._forget(self.target)
                os.close(self.target)
            self.target = -1


class Relay:
    """The streams of one step.

    ``run`` is the socket on which the supervisor answers. ``pipes`` maps descriptors to read to the names of
    their streams. ``stdin`` is (source, pipe to the step) or None. ``console`` is the socket that receives
    the step's terminal, and ``source`` the descriptor whose input goes there.
    """

    def __init__(
        self,
        run: socket.socket,
        output: Output,
        *,
        pipes: dict[int, str],
        stdin: tuple[int, int] | None = None,
        console: socket.socket | None = None,
        source: int = -1,
        fixed_size: bool = False,
    ) -> None:
        self.run = run
        self.output = output
        self.pipes = dict(pipes)
        self._stdin = stdin
        self._console = console
        self._source = source
        self._fixed_size = fixed_size
        self._controller = -1
        self._size: tuple[int, int] | None = None
        self._raw = b""
        self._pump: Pump | None = None
        self._ours: OurTerminal | None = None
        self._cancel: threading.Event | None = None
        self._deadline: float | None = None
        self._stopped = False
        self.timed_out = False

    def until_ended(self, cancel: threading.Event | None, timeout: float | None) -> dict[str, Any] | None:
        """Relay until the supervisor has answered; return its answer, or None when it ended without one.

        An exception of ``output`` is passed through; the step still runs then.
        """
        self._cancel = cancel
        self._deadline = None if timeout is None else time.monotonic() + timeout
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            stack.callback(self._close)
            selector.register(self.run, selectors.EVENT_READ)
            for fd in self.pipes:
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            if self._stdin is not None:
                self._pump = Pump(selector, *self._stdin, is_pty=False)
            if self._console is not None:
                selector.register(self._console, selectors.EVENT_READ)
            while not self._complete():
                for key, events in selector.select(self._wait()):
                    if self._serve(key, events, selector, stack):
                        return None
                if self._pump is not None and self._pump.always:
                    self._pump.step()
                self._follow_size()
                self.must_end()
            # The step is over. Later output of a process that still holds the pipe does not belong to the
            # step: only what a pipe can hold is read.
            for fd in (*self.pipes, *([self._controller] if self._controller >= 0 else [])):
                left = _MOST_LEFT
                while left and self._pass_on(fd, again=True):
                    left -= 1
            value: dict[str, Any] = json.loads(self._raw[LENGTH.size :])
            return value

    def must_end(self) -> bool:
        """Whether the step is cancelled or has taken too long; kill it if it is and has not ended."""
        overdue = self._deadline is not None and time.monotonic() >= self._deadline
        if not overdue and (self._cancel is None or not self._cancel.is_set()):
            return False
        if not self._stopped and not self._complete():
            self._stopped = True
            self.timed_out = overdue
            kill(self.run)
        return True

    def _wait(self) -> float | None:
        if self._pump is not None and self._pump.always:
            return 0
        without_signal = self._ours is not None and self._ours.changed < 0 and not self._fixed_size
        wait = _LOOK if self._cancel is not None or without_signal else None
        if self._deadline is not None and not self._stopped:
            left = max(0.0, self._deadline - time.monotonic())
            wait = left if wait is None else min(wait, left)
        return wait

    def _serve(
        self, key: selectors.SelectorKey, events: int, selector: selectors.BaseSelector, stack: ExitStack
    ) -> bool:
        """Handle one descriptor that is ready; return True when the supervisor is gone."""
        if key.fileobj is self.run:
            chunk = self.run.recv(_CHUNK)
            self._raw += chunk
            return not chunk
        if key.fileobj is self._console:
            selector.unregister(key.fileobj)
            self._receive_terminal(selector, stack)
        elif key.data is self._pump and self._pump is not None:
            self._pump.step()
        elif self._ours is not None and key.fd == self._ours.changed:
            self._ours.clear()
        else:
            if events & selectors.EVENT_WRITE and self._pump is not None:
                self._pump.step()
            if events & selectors.EVENT_READ and not self._pass_on(key.fd):
                if key.fd == self._controller and self._pump is not None:
                    self._pump.close()
                selector.unregister(key.fd)
        return False

    def _receive_terminal(self, selector: selectors.BaseSelector, stack: ExitStack) -> None:
        assert self._console is not None
        try:
            _, fds, _, _ = socket.recv_fds(self._console, 16, 1)
        except OSError:
            fds = []
        if not fds:
            return  # the step did not get that far, and the answer will say why
        self._controller = fds[0]
        os.set_blocking(self._controller, False)
        selector.register(self._controller, selectors.EVENT_READ)
        # While we hold its other side, a terminal does not end when no process of the step has it open for a
        # while.
        stack.callback(os.close, pty.peer(self._controller))
        if is_terminal(self._source):
            self._ours = stack.enter_context(OurTerminal(self._source))
            if self._ours.changed >= 0:
                selector.register(self._ours.changed, selectors.EVENT_READ)
        self._pump = Pump(selector, self._source, self._controller, is_pty=True)
        stack.callback(self._pump.close)

    def _follow_size(self) -> None:
        if self._ours is None or self._fixed_size or self._controller < 0:
            return
        size = size_of((self._ours.fd,))
        if size is not None and size != self._size:
            self._size = size
            pty.set_size(self._controller, *size)

    def _complete(self) -> bool:
        raw = self._raw
        return len(raw) >= LENGTH.size and len(raw) >= LENGTH.size + int(LENGTH.unpack(raw[: LENGTH.size])[0])

    def _pass_on(self, fd: int, again: bool = False) -> bool:
        """Read once; return False at the end of the stream (with ``again``, also if there is no data now)."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return not again
        except OSError:
            return False  # EIO: the last process has closed the terminal
        if data:
            self.output(self.pipes.get(fd, "stdout"), data)
        return bool(data)

    def _close(self) -> None:
        if self._stdin is not None and self._pump is not None:
            self._pump.close()
        if self._controller >= 0:
            os.close(self._controller)
            self._controller = -1


def kill(run: socket.socket) -> None:
    """Ask the supervised child to kill the step."""
    try:
        run.send(b"k")
    except OSError:
        pass  # it has just ended


def await_end(run: socket.socket) -> None:
    """Wait until the supervised child is done with a step that was killed."""
    try:
        while run.recv(_CHUNK):
            pass
    except OSError:
        pass  # ended without reading our message
