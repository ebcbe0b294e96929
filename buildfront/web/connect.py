"""Connections: to addresses that were looked at first, with a patience that ends, cut at once when we are.

httpcore speaks HTTP over them. It is given what is here as its network, so that the address that was judged is the
one that is connected to, whatever a name server says a moment later.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from ..errors import BuildError
from ..text import visible
from .urls import Url, Where, check_addresses, where

PATIENCE = 60.0
"""Seconds that a server may keep us waiting; each KiB that it sends or takes gives one back."""
_RATE = 1024
_CONNECT = 20.0
_HEADERS = 256 << 10  # of one answer, with all that comes before it (1xx)
_ADDRESSES = 8


class _Patience:
    """How long we still wait in one direction. A server that is slow for long uses it up; a pause does not."""

    def __init__(self) -> None:
        self.left = PATIENCE

    def spend(self, began: float, size: int) -> None:
        self.left = min(PATIENCE, self.left - (time.monotonic() - began) + size / _RATE)


class Lines:
    """All open connections, so that they can be cut from another thread."""

    def __init__(self) -> None:
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.cut = threading.Event()

    def add(self, line: socket.socket) -> None:
        """Note an open connection. Raise httpcore.ConnectError after :meth:`abort`."""
        with self._lock:
            if self.cut.is_set():
                line.close()
                raise httpcore.ConnectError("the transfer was ended")
            self._sockets.add(line)

    def drop(self, line: socket.socket) -> None:
        """Forget one, and close it."""
        with self._lock:
            self._sockets.discard(line)
            line.close()

    def abort(self) -> None:
        """Cut all of them, and let none be made: who waits for one wakes with an error."""
        with self._lock:
            self.cut.set()
            for line in self._sockets:
                try:
                    socket.socket.shutdown(line, socket.SHUT_RDWR)  # an SSLSocket's own would touch its state
                except OSError:
                    pass  # not connected yet, or no more


class Stream(httpcore.NetworkStream):
    """One connection. ``where`` says how far away its other end is."""

    def __init__(self, line: socket.socket, lines: Lines, distance: Where) -> None:
        self._line = line
        self._lines = lines
        self.where = distance
        self._reading = _Patience()
        self._writing = _Patience()
        self._headers: int | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return bytes from the server. Raise httpcore.ReadTimeout if it is too slow."""
        self._writing = _Patience()
        began = time.monotonic()
        try:
            self._line.settimeout(max(self._reading.left, 0.001))
            data = self._line.recv(max_bytes)
        except TimeoutError:
            raise httpcore.ReadTimeout(f"it sends less than {_RATE} bytes a second") from None
        except (OSError, ValueError) as error:
            raise httpcore.ReadError(visible(str(error))) from None
        self._reading.spend(began, len(data))
        if self._reading.left <= 0:
            raise httpcore.ReadTimeout(f"it sends less than {_RATE} bytes a second")
        if self._headers is not None:
            self._headers -= len(data)
            if self._headers < 0:
                raise httpcore.RemoteProtocolError("the headers of its answer do not end")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of the bytes. Raise httpcore.WriteTimeout if the server takes too few."""
        self._reading, self._headers = _Patience(), _HEADERS
        view = memoryview(buffer)
        while view:
            began = time.monotonic()
            try:
                self._line.settimeout(max(self._writing.left, 0.001))
                sent = self._line.send(view)
            except TimeoutError:
                raise httpcore.WriteTimeout(f"it takes less than {_RATE} bytes a second") from None
            except (OSError, ValueError) as error:
                raise httpcore.WriteError(visible(str(error))) from None
            self._writing.spend(began, sent)
            view = view[sent:]

    def body(self) -> None:
        """Note that the headers are complete: the body has other limits."""
        self._headers = None

    def close(self) -> None:
        """Close it."""
        self._lines.drop(self._line)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Return the same connection with TLS. Raise BuildError if the certificate is not trusted."""
        try:
            self._line.settimeout(_CONNECT)
            # The handshake is a step of its own, so that abort() reaches a connection that hangs in it.
            line = ssl_context.wrap_socket(
                self._line, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            self._lines.add(line)
            self._line, plain = line, self._line
            self._lines.drop(plain)
            line.do_handshake()
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise BuildError(
                f"the certificate of {server_hostname} is not trusted: {visible(error.verify_message, 200)}",
                hint="SSL_CERT_FILE names a file of other authorities",
            ) from None
        except TimeoutError:
            self.close()
            raise httpcore.ReadTimeout("its TLS handshake does not end") from None
        except (OSError, ValueError) as error:
            self.close()
            raise httpcore.ConnectError(visible(str(error))) from None
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return the facts that httpcore asks for: whether the other end has closed, and whether there is TLS."""
        if info == "is_readable":
            return _readable(self._line)
        if info == "ssl_object":
            return self._line if isinstance(self._line, ssl.SSLSocket) else None
        return self._line if info == "socket" else None


def _readable(line: socket.socket) -> bool:
    import select

    if line.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))


Address = tuple[int, str, Any]
"""The family, the address as text, and the address for connect()."""


def look_up(host: str, port: int, cut: threading.Event) -> list[Address]:
    """Return the addresses of a host. Raise httpcore.ConnectError if there are none.

    A thread asks the name servers, and is not waited for: nothing can interrupt the look-up of the C library.
    """
    try:
        number = ipaddress.ip_address(host)
        return [(socket.AF_INET if number.version == 4 else socket.AF_INET6, host, (host, port))]
    except ValueError:
        pass
    answers: queue.SimpleQueue[list[Address] | str] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(
                [
                    (item[0], str(item[4][0]), item[4])
                    for item in found
                    if item[0] in (socket.AF_INET, socket.AF_INET6)
                ]
            )
        except OSError as error:
            answers.put(str(error.strerror or error))
        except UnicodeError:
            answers.put("its host is not a name")

    threading.Thread(target=ask, daemon=True).start()
    deadline = time.monotonic() + _CONNECT
    while not cut.is_set() and time.monotonic() < deadline:
        try:
            answer = answers.get(timeout=0.2)
        except queue.Empty:
            continue
        if isinstance(answer, str):
            raise httpcore.ConnectError(visible(answer))
        if not answer:
            raise httpcore.ConnectError(f"{host} has no address")
        return answer[:_ADDRESSES]
    raise httpcore.ConnectError(f"{host} can't be looked up")


class Network(httpcore.NetworkBackend):
    """Makes connections for requests to one ``url``'s origin, which something at ``reach`` has led us to.

    ``judge`` is false for a proxy: its address is the user's choice, and what it connects to it looks up itself.
    ``plain``: plain http may go to other machines.
    """

    def __init__(
        self, lines: Lines, scheme: str, reach: Where | None, *, judge: bool = True, plain: bool = False
    ) -> None:
        self._lines = lines
        self._scheme = scheme
        self._reach = reach
        self._judge = judge
        self._plain = plain

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers. Raise BuildError if one of them must not be connected to."""
        addresses = look_up(host, port, self._lines.cut)
        if self._judge:
            url = Url(self._scheme, host, port, "/")
            refusal = check_addresses(self._reach, url, [text for _, text, _ in addresses], plain=self._plain)
            if refusal is not None:
                raise refusal
        deadline = time.monotonic() + _CONNECT
        trouble: httpcore.NetworkError | httpcore.TimeoutException = httpcore.ConnectError(
            "no address answers"
        )
        for number, (family, text, address) in enumerate(addresses):
            share = (deadline - time.monotonic()) / (len(addresses) - number)
            line = socket.socket(family, socket.SOCK_STREAM)
            self._lines.add(line)
            try:
                line.settimeout(max(share, 1.0))
                line.connect(address)
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # abort() can't reach a socket before it connects: then this one is too late
                if self._lines.cut.is_set():
                    raise OSError("the transfer was ended")
            except TimeoutError:
                self._lines.drop(line)
                trouble = httpcore.ConnectTimeout("it does not answer")
            except OSError as error:
                self._lines.drop(line)
                trouble = httpcore.ConnectError(visible(error.strerror or str(error)))
            except BaseException:
                self._lines.drop(line)
                raise
            else:
                return Stream(line, self._lines, where(text))
        raise trouble
