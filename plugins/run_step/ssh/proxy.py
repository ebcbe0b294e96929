"""The socket at which a step finds an SSH agent: it may use the keys, but not change, lock or empty the agent.

One thread with one selector serves every client, and never waits for one of them or for the agent. Every
client is taken to be hostile. Mounting the socket into the step is done elsewhere.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from contextlib import ExitStack
from types import TracebackType

from ..errors import HostError
from . import messages
from .agent import Agent
from .exchange import Exchange, receive, send
from .messages import ANSWERS, FAILURE, MalformedMessage, Reader

CLIENTS = 64
"""The limit for open connections. With one more, the one that is least worth keeping is closed."""
PATIENCE = 120.0
"""Seconds to wait for an agent's answer: a person may have to confirm it. A server waits as long (LoginGraceTime)."""
_PAUSE = 0.1
"""Seconds until the next attempt to accept, after this process ran out of descriptors."""
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Proxy:
    """A unix socket ``name`` in ``directory`` that lends ``agent`` until ``close()``.

    A client can list the keys and sign with them. The answer to everything else is SSH_AGENT_FAILURE. It is
    also the answer if the agent can't be reached, sends an invalid answer, or is silent for ``patience``
    seconds. A message that is malformed or longer than 256 KiB ends its connection. At most 64 connections
    are open at one time.

    At no time can a user connect that ``mode``, ``uid`` and ``gid`` don't admit. All descriptors are
    close-on-exec. Raises HostError when the socket can't be made, ValueError for an invalid name; nothing is
    left behind then.
    """

    def __init__(
        self,
        directory: str,
        name: str,
        agent: Agent,
        *,
        mode: int,
        uid: int,
        gid: int,
        patience: float = PATIENCE,
    ) -> None:
        if not name or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} is not a file name")
        self.path = os.path.join(directory, name)
        self._name = name
        self._lock = threading.Lock()
        with ExitStack() as undo:
            try:
                self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                undo.callback(os.close, self._directory)
                listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                listener.setblocking(False)
                # The file gets the mode of the socket, so that the umask, which all threads share, is not
                # changed.
                os.fchmod(listener.fileno(), 0)
                # By descriptor: the path of a directory may be too long for a socket's address.
                listener.bind(f"/proc/self/fd/{self._directory}/{name}")
                self._identity = self._look()
                undo.callback(self._unlink)
                self._admit(mode, uid, gid)
                # Until now every connection was refused.
                listener.listen()
                self._lifeline, ours = socket.socketpair()
                undo.callback(self._lifeline.close)
                undo.callback(ours.close)
                service = _Service(listener, ours, agent, patience)
                undo.callback(service.close)
                self._thread = threading.Thread(target=service.run, name=f"ssh agent {name}", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
                why = (isinstance(error, OSError) and error.strerror) or error
                raise HostError(f"no socket for an SSH agent can be made at {self.path!r}: {why}") from error
            undo.pop_all()

    def __repr__(self) -> str:
        return f"Proxy({self.path!r})"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and the thread, close every descriptor, unlink the socket.

        Clients and the agent can't delay it. It can be called again, and from several threads. Raises OSError
        when the socket can't be unlinked; everything else is done then. A socket that is gone or was replaced
        is not unlinked.
        """
        with self._lock:
            if self._directory < 0:
                return
            # Shut down, not only closed: a process that was forked meanwhile may have the descriptor too.
            if self._lifeline.fileno() >= 0:
                self._lifeline.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._lifeline.close()
            try:
                self._unlink()
            finally:
                os.close(self._directory)
                self._directory = -1

    def _look(self) -> tuple[int, int]:
        status = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
        return status.st_dev, status.st_ino

    def _admit(self, mode: int, uid: int, gid: int) -> None:
        fd = os.open(self._name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            os.chown(f"/proc/self/fd/{fd}", uid, gid)
            os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)

    def _unlink(self) -> None:
        try:
            if self._look() == self._identity:
                os.unlink(self._name, dir_fd=self._directory)
        except FileNotFoundError:
            pass  # the socket, or its directory, was removed by another process


class _Client:
    """One connection. It reads a message, waits for the agent or writes an answer: one of these at a time."""

    __slots__ = ("answer", "closed", "deadline", "exchange", "kind", "reader", "served", "sock", "watched")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = Reader()
        self.kind = 0
        self.exchange: Exchange | None = None
        self.deadline = 0.0
        self.answer = b""
        self.served = False
        self.watched: tuple[int, int] | None = None
        self.closed = False

    def worth(self) -> tuple[bool, bool]:
        """Return how much is lost if it ends: least if it never sent a complete message, or is in the middle of one."""
        idle = self.served and not self.reader.begun and not self.answer
        return self.exchange is not None, idle


class _Service:
    """The thread's loop. It owns the listener and its end of the lifeline, and ends when the other end is closed."""

    def __init__(
        self, listener: socket.socket, lifeline: socket.socket, agent: Agent, patience: float
    ) -> None:
        self._listener = listener
        self._lifeline = lifeline
        self._agent = agent
        self._patience = patience
        self._clients: dict[_Client, None] = {}
        """The clients in the order in which they last sent something."""
        self._paused_until: float | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(lifeline, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)

    def close(self) -> None:
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()
        self._listener.close()
        self._lifeline.close()

    def run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self.close()

    def _turn(self) -> bool:
        """Wait, and handle each descriptor that is ready; return False at the end of the lifeline."""
        for key, _ in self._selector.select(self._wait()):
            if key.fileobj is self._lifeline:
                return False
            if key.fileobj is self._listener:
                self._accept()
            elif not key.data.closed:  # it may have been closed for another one in this turn
                self._serve(key.data)
        now = time.monotonic()
        for client in [one for one in self._clients if one.exchange is not None and one.deadline <= now]:
            self._answer(client, FAILURE)
        if self._paused_until is not None and self._paused_until <= now:
            self._paused_until = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        return True

    def _wait(self) -> float | None:
        times = [client.deadline for client in self._clients if client.exchange is not None]
        if self._paused_until is not None:
            times.append(self._paused_until)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client closed the connection before we accepted it
        except OSError as error:
            if error.errno not in _SCARCE:
                raise
            # The listener stays ready, and without a pause this thread would try again all the time.
            self._selector.unregister(self._listener)
            self._paused_until = time.monotonic() + _PAUSE
            return
        sock.setblocking(False)
        if len(self._clients) >= CLIENTS:
            self._drop(min(self._clients, key=_Client.worth))  # of equals, the one that was silent longest
        client = _Client(sock)
        self._clients[client] = None
        self._watch(client, sock.fileno(), selectors.EVENT_READ)

    def _serve(self, client: _Client) -> None:
        if client.exchange is not None:
            self._advance(client, client.exchange)
            return
        try:
            if client.answer:
                self._write(client)
                return
            message = receive(client.sock, client.reader)
            if message is not None:
                messages.check(message)
        except (OSError, EOFError, MalformedMessage):
            self._drop(client)
            return
        self._clients[client] = self._clients.pop(client)
        if message is not None:
            client.kind = message[0]
            self._ask(client, message)

    def _ask(self, client: _Client, message: bytes) -> None:
        reply: bytes | Exchange = FAILURE
        if client.kind in ANSWERS:
            try:
                reply = self._agent.ask(message)
            except OSError:
                pass  # the agent can't be reached: the client gets a failure
        if isinstance(reply, bytes):
            self._answer(client, reply)
            return
        client.exchange = reply
        client.deadline = time.monotonic() + self._patience
        self._advance(client, reply)

    def _advance(self, client: _Client, exchange: Exchange) -> None:
        answer: bytes | None = FAILURE
        try:
            answer = exchange.advance()
        except (OSError, EOFError, MalformedMessage):
            pass  # as above: the agent is gone
        if answer is not None:
            self._answer(client, answer)
            return
        # Meanwhile nothing is read from the client: its next message stays in the socket.
        event = selectors.EVENT_WRITE if exchange.sending else selectors.EVENT_READ
        self._watch(client, exchange.fileno(), event)

    def _answer(self, client: _Client, answer: bytes) -> None:
        if client.exchange is not None:
            self._watch(client)
            client.exchange.close()
            client.exchange = None
        if not answer or answer[0] != ANSWERS.get(client.kind):
            answer = FAILURE
        client.served = True
        client.answer = messages.framed(answer)
        try:
            self._write(client)
        except OSError:
            self._drop(client)  # the client didn't wait for the answer

    def _write(self, client: _Client) -> None:
        client.answer = send(client.sock, client.answer)
        # As long as the client doesn't read, nothing more is read from it.
        event = selectors.EVENT_WRITE if client.answer else selectors.EVENT_READ
        self._watch(client, client.sock.fileno(), event)

    def _watch(self, client: _Client, fd: int = -1, event: int = 0) -> None:
        """Watch ``fd`` for the client in place of what it waited for before; nothing without ``fd``."""
        wanted = (fd, event) if fd >= 0 else None
        if client.watched == wanted:
            return
        if client.watched is not None:
            self._selector.unregister(client.watched[0])
        if wanted is not None:
            self._selector.register(fd, event, client)
        client.watched = wanted

    def _drop(self, client: _Client) -> None:
        self._watch(client)
        if client.exchange is not None:
            client.exchange.close()
        client.sock.close()
        client.closed = True
        del self._clients[client]
