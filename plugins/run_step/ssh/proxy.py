"""The socket at which a step finds an SSH agent: it may use the keys, and not change, lock or empty the agent.

One thread with one selector serves every client, and nothing in it waits for one of them or for the agent. Whoever
connects is taken to be hostile. Where the socket is shown to the step is no matter of this module.
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
"""Connections at one time. With one more, the one that is least worth keeping ends."""
PATIENCE = 120.0
"""Seconds for an agent's answer: a person may have to confirm it. A server waits as long (LoginGraceTime)."""
_PAUSE = 0.1
"""Seconds until the next try to accept, where this process has no descriptor left."""
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Proxy:
    """A unix socket ``name`` in ``directory`` that lends ``agent`` until ``close()``.

    Whoever may connect can list the keys and sign with them; to everything else the answer is SSH_AGENT_FAILURE,
    and so it is when the agent can't be reached, answers nonsense, or is silent for ``patience`` seconds. A message
    that is malformed or longer than 256 KiB ends its connection. At most 64 connections are open at one time.

    Nobody but those whom ``mode``, ``uid`` and ``gid`` admit can connect at any time. All descriptors are
    close-on-exec. Raises HostError when the socket can't be made, ValueError for a name that is none; nothing is left
    then.
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
            raise ValueError(f"{name!r} is no name of a file")
        self.path = os.path.join(directory, name)
        self._name = name
        self._lock = threading.Lock()
        with ExitStack() as undo:
            try:
                self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                undo.callback(os.close, self._directory)
                listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                listener.setblocking(False)
                # A socket's file gets the mode that the socket has: no umask, which all threads share, is touched.
                os.fchmod(listener.fileno(), 0)
                # By descriptor: a path as long as directories can be has no room in an address.
                listener.bind(f"/proc/self/fd/{self._directory}/{name}")
                self._identity = self._look()
                undo.callback(self._unlink)
                self._admit(mode, uid, gid)
                # Until now a connection was refused, whoever asked for it.
                listener.listen()
                self._lifeline, ours = socket.socketpair()
                undo.callback(self._lifeline.close)
                undo.callback(ours.close)
                service = _Service(listener, ours, agent, patience)
                undo.callback(service.close)
                self._thread = threading.Thread(target=service.run, name=f"ssh agent {name}", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError) as error:  # the latter: no thread can be started
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

        What clients or the agent do can't delay it. It can be called again, and from several threads. Raises
        OSError when the socket can't be unlinked; everything else is done then. One that is gone or was replaced
        is left.
        """
        with self._lock:
            if self._directory < 0:
                return
            # Not only closed: a process that was forked meanwhile may have the descriptor too.
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
            pass  # somebody has removed it, or the directory with it


class _Client:
    """One connection. It reads a message, or waits for the agent, or writes an answer; never two of these."""

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
        """How much is lost with it: least with one that never said anything whole, or leaves something half done."""
        idle = self.served and not self.reader.begun and not self.answer
        return self.exchange is not None, idle


class _Service:
    """What the thread does. It owns the listener and its end of the lifeline, and ends when the other end goes."""

    def __init__(
        self, listener: socket.socket, lifeline: socket.socket, agent: Agent, patience: float
    ) -> None:
        self._listener = listener
        self._lifeline = lifeline
        self._agent = agent
        self._patience = patience
        self._clients: dict[_Client, None] = {}
        """In the order in which they were last heard."""
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
        """Wait, and do one thing for each that is ready; False at the end of the lifeline."""
        for key, _ in self._selector.select(self._wait()):
            if key.fileobj is self._lifeline:
                return False
            if key.fileobj is self._listener:
                self._accept()
            elif not key.data.closed:  # it may have ended for another one in this turn
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
            return  # gone before we came to it
        except OSError as error:
            if error.errno not in _SCARCE:
                raise
            # It stays ready, and asking again and again would be all that this thread does.
            self._selector.unregister(self._listener)
            self._paused_until = time.monotonic() + _PAUSE
            return
        sock.setblocking(False)
        if len(self._clients) >= CLIENTS:
            self._drop(min(self._clients, key=_Client.worth))  # of equals the one that was silent for longest
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
                pass  # nobody is there: that is a failure for who asked, and for nobody else
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
        # Meanwhile nothing is read from the client: what it sends next waits where it is.
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
            self._drop(client)  # it didn't wait for the answer

    def _write(self, client: _Client) -> None:
        client.answer = send(client.sock, client.answer)
        # As long as it doesn't read, nothing more of it is read.
        event = selectors.EVENT_WRITE if client.answer else selectors.EVENT_READ
        self._watch(client, client.sock.fileno(), event)

    def _watch(self, client: _Client, fd: int = -1, event: int = 0) -> None:
        """The one thing that the client waits for, instead of what it was; nothing without ``fd``."""
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
