"""Requests and answers, one hop each: every answer is read within limits, and no redirect is followed here."""

from __future__ import annotations

import os
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import httpcore

from ..errors import BuildError
from ..text import visible
from ..version import __version__
from .connect import PATIENCE, Lines, Network, Stream
from .urls import Url, Where, check_addresses, literal, where

TRIES = 4
BACKOFF = 0.2
_LONGEST_PAUSE = 10.0  # whatever Retry-After says
_ENOUGH = 60.0  # seconds after which nothing is tried again
_DOCUMENT = 120.0  # seconds that a document (not a blob) may take
_DRAIN = (
    16 << 10
)  # bytes that are read of an answer that is not wanted, so that its connection can be used again
_TRANSIENT = (429, 500, 502, 503, 504)
_BROKEN = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_TIMEOUTS = {"connect": 20.0, "read": PATIENCE, "write": PATIENCE, "pool": PATIENCE}


class Broken(Exception):
    """A request without a complete answer. ``transient``: the same may work in a moment."""

    def __init__(self, error: Exception) -> None:
        words = visible(str(error), 300) or type(error).__name__
        ended = "disconnected" in words or "closed connection" in words
        malformed = isinstance(error, httpcore.RemoteProtocolError) and not ended
        super().__init__(f"its answer is not HTTP ({words})" if malformed else words)
        # A server that has kept us waiting once would do so each time.
        lasting = (
            httpcore.TimeoutException,
            httpcore.LocalProtocolError,
            httpcore.ProxyError,
            httpcore.UnsupportedProtocol,
        )
        if isinstance(error, httpcore.RemoteProtocolError):
            self.transient = ended
        else:
            self.transient = not isinstance(error, lasting)


class Response:
    """An answer, its body not read yet. ``where`` says how far away the server is."""

    def __init__(self, response: httpcore.Response, method: str, url: Url, distance: Where) -> None:
        self._response = response
        self._method = method
        self._begun = False
        self.url = url
        self.where = distance
        self.status = response.status
        reason = response.extensions.get("reason_phrase", b"")
        self.reason = visible(reason.decode("latin-1"), 200) if isinstance(reason, bytes) else ""

    def all(self, name: str) -> list[str]:
        """Return the values of all headers of a name (lower case), as they came."""
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self._response.headers if key.lower() == wanted]

    def header(self, name: str) -> str:
        """Return the value of the first header of a name, without spaces around; empty if there is none."""
        return next((value.strip() for value in self.all(name)), "")

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, not decoded. Raises Broken."""
        self._begun = True
        try:
            yield from self._response.iter_stream()
        except _BROKEN as error:
            raise Broken(error) from None

    def read(self, limit: int, what: str, *, cut: bool = False) -> bytes:
        """Return the body, decoded. Raises Broken, and BuildError for more than ``limit`` bytes.

        With ``cut`` what is beyond the limit is left out instead. Nothing beyond it is ever held.
        """
        decode = _decoder(self.header("content-encoding"), what, limit)
        deadline = time.monotonic() + _DOCUMENT
        out = bytearray()
        coming = 0
        for chunk in self.chunks():
            coming += len(chunk)
            out += decode(chunk, limit + 1 - len(out))
            if max(len(out), coming) > limit:
                if cut:
                    break
                raise BuildError(f"{what} is larger than {limit} bytes")
            if time.monotonic() > deadline:
                raise BuildError(f"{what} does not come to its end within {_DOCUMENT:.0f} seconds")
        return bytes(out[:limit])

    def finish(self) -> None:
        """Close it; the connection stays usable when hardly anything is left to read."""
        length = self.header("content-length")
        short = length.isdecimal() and len(length) < 6 and int(length) <= _DRAIN
        try:
            chunked = "chunked" in self.header("transfer-encoding").lower()
            if not self._begun and (self._method == "HEAD" or short or chunked):
                left = _DRAIN
                for chunk in self.chunks():
                    left -= len(chunk)
                    if left < 0:
                        break
        except Broken:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close it, whatever is left to read."""
        self._response.close()

    def pause(self) -> float:
        """Return how long Retry-After asks us to wait, at most ten seconds."""
        text = self.header("retry-after")
        return min(float(text), _LONGEST_PAUSE) if text.isdecimal() and len(text) < 10 else 0.0


def _decoder(encoding: str, what: str, limit: int) -> Callable[[bytes, int], bytes]:
    """Return what decodes a Content-Encoding: a function of the next bytes and of how many it may give."""
    name = encoding.lower()
    if name in ("", "identity"):
        return lambda data, most: data[:most]
    if name not in ("gzip", "x-gzip", "deflate"):
        raise BuildError(
            f"{what} comes encoded as {visible(encoding, 100)!r}, though it was asked for as it is"
        )
    unpack = zlib.decompressobj(47 if name != "deflate" else 15)

    def decode(data: bytes, most: int) -> bytes:
        try:
            return unpack.decompress(data, max(most, 1))
        except zlib.error:
            raise BuildError(f"{what} is damaged: it is not {name}") from None

    return decode


class Http:
    """Connections to servers and to where they lead. Requests may come from several threads.

    ``plain``: plain http may go to other machines than this one.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._plain = plain
        self._lines = Lines()
        self._pools: dict[tuple[str, Where | None, str], httpcore.ConnectionPool] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def exchange(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        body: Iterable[bytes] | None = None,
        *,
        reach: Where | None,
    ) -> Response:
        """Return the answer to one request. Raises Broken; BuildError for a place that we must not be led to.

        ``reach`` is the farthest place that had a say in ``url``, None when it is the user's own choice.
        """
        proxy = proxy_for(url)
        if proxy:
            known = literal(url.host)
            refusal = check_addresses(reach, url, [known] if known else [], plain=self._plain)
            if refusal is not None:
                raise refusal
        fields = {
            "Host": url.authority,
            "User-Agent": f"buildfront/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
        }
        try:
            request = httpcore.Request(
                method,
                httpcore.URL(
                    scheme=url.scheme, host=url.host.encode(), port=url.port, target=url.target.encode()
                ),
                headers=list(fields.items()),
                content=body,
                extensions={"timeout": _TIMEOUTS},
            )
            response = self._pool(url.scheme, reach, proxy).handle_request(request)
        except _BROKEN as error:
            raise Broken(error) from None
        stream = response.extensions.get("network_stream")
        if isinstance(stream, Stream):
            stream.body()
        near = stream.where if isinstance(stream, Stream) and not proxy else Where.PUBLIC
        return Response(response, method, url, near)

    def persist(self, attempt: Callable[[], Response]) -> Response:
        """Return what ``attempt`` gets, tried again a few times while it fails for a reason that passes.

        Raises Broken when the last one breaks.
        """
        began = time.monotonic()
        for count in range(TRIES):
            last = count == TRIES - 1 or time.monotonic() - began > _ENOUGH or self._lines.cut.is_set()
            wait = BACKOFF * 2**count
            try:
                response = attempt()
            except Broken as error:
                if last or not error.transient:
                    raise
            else:
                if last or response.status not in _TRANSIENT:
                    return response
                wait = max(wait, response.pause())
                response.finish()
            self._lines.cut.wait(wait)
        raise AssertionError("the last attempt returns or raises")

    def abort(self) -> None:
        """Cut all connections: every thread that waits for one gets Broken. Nothing works afterwards."""
        self._lines.abort()

    def close(self) -> None:
        """Close the connections."""
        self._lines.abort()
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _pool(self, scheme: str, reach: Where | None, proxy: str) -> httpcore.ConnectionPool:
        # A pool for each reach: a connection that one may use was not judged for another.
        with self._lock:
            found = self._pools.get((scheme, reach, proxy))
            if found is None:
                if scheme == "https" and self._tls is None:
                    self._tls = tls_context()
                more: dict[str, Any] = {"ssl_context": self._tls, "max_connections": 10}
                if proxy:
                    found = _by_proxy(proxy, self._lines, more)
                else:
                    more["network_backend"] = Network(self._lines, scheme, reach, plain=self._plain)
                    found = httpcore.ConnectionPool(**more)
                self._pools[scheme, reach, proxy] = found
            return found


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts the authorities in SSL_CERT_FILE or SSL_CERT_DIR, else those of certifi.

    Raise BuildError if they can't be read.
    """
    import certifi

    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        if file:
            return ssl.create_default_context(cafile=file)
        if directory:
            return ssl.create_default_context(capath=directory)
        return ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        raise BuildError(
            f"the certificates of {file or directory or certifi.where()} can't be read: {error.strerror or error}",
            hint="SSL_CERT_FILE names a file of certificates (PEM)",
        ) from None


def proxy_for(url: Url) -> str:
    """Return the proxy that the environment names for a URL, or the empty string. This machine has none."""
    from urllib.request import getproxies, proxy_bypass

    known = literal(url.host)
    if known and where(known) == Where.LOOPBACK:
        return ""
    proxies: dict[str, str] = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(f"{url.host}:{url.port}", proxies):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _by_proxy(proxy: str, lines: Lines, more: dict[str, Any]) -> httpcore.ConnectionPool:
    from importlib.util import find_spec
    from urllib.parse import unquote, urlsplit

    wrong = BuildError(
        f"the proxy {visible(proxy.rpartition('@')[2], 200)!r} is not an http, https or socks5 URL",
        hint="see the variables HTTPS_PROXY and ALL_PROXY",
    )
    try:
        parts = urlsplit(proxy)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 1080)
        host = (parts.hostname or "").encode("ascii")
    except ValueError:
        raise wrong from None
    if not host or parts.scheme not in ("http", "https", "socks5", "socks5h"):
        raise wrong
    address = httpcore.URL(scheme=parts.scheme, host=host, port=port, target="/")
    login = None
    if parts.username is not None:
        login = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
    if parts.scheme == "http":
        # TLS within TLS, and SOCKS, are httpcore's own affair: only these lines can be cut and have our patience.
        more["network_backend"] = Network(lines, "http", None, judge=False)
    if parts.scheme in ("http", "https"):
        context = tls_context() if parts.scheme == "https" else None
        return httpcore.HTTPProxy(address, proxy_auth=login, proxy_ssl_context=context, **more)
    if find_spec("socksio") is None:
        raise BuildError("for a SOCKS proxy the package socksio is missing", hint="pip install socksio")
    return httpcore.SOCKSProxy(address, proxy_auth=login, **more)
