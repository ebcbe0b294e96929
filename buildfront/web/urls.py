"""URLs and addresses that a server names: read strictly, and judged before anything is sent there.

A URL is parsed here, once. Connections are made to these parts, and no other parser sees the text.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import BuildError
from ..text import visible

_LIMIT = 8192
_URL = re.compile(
    r"(?i:(https?))://"
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))"
    r"(?::([0-9]{1,5}))?"
    r"(/[^?#]*)?(\?[^#]*)?"
)
_UNFIT = re.compile(r"[^\x21-\x7e]|\\")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORTS = {"http": 80, "https": 443}


class Url(NamedTuple):
    """An absolute http or https URL. ``host`` is in lower case and without brackets."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Return scheme, host and port: what credentials belong to."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Return HOST[:PORT] as a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse(text: str, what: str = "the address") -> Url:
    """Return the parts of an absolute URL. Raise BuildError, which names ``what``, if it is unusual in any way.

    Refused: other schemes, user information, fragments, characters that no URL has, ports that do not exist, and
    numbers that stand for an IPv4 address in any other form than four decimal ones.
    """

    def refuse(why: str) -> BuildError:
        # without the query: it may be signed, and errors end in logs
        return BuildError(f"{what} is refused: {why}: {visible(text.partition('?')[0], 200)}")

    if len(text) > _LIMIT:
        raise refuse(f"it is longer than {_LIMIT} characters")
    if _UNFIT.search(text):
        raise refuse("it holds characters that no URL has")
    found = _URL.fullmatch(text)
    if found is None:
        scheme = text.partition(":")[0].lower()
        raise refuse(
            "it is not an http or https URL"
            if scheme not in _PORTS
            else "it is not SCHEME://HOST[:PORT]/PATH"
        )
    scheme, six, name, digits, path, query = found.groups()
    scheme = scheme.lower()
    port = int(digits) if digits else _PORTS[scheme]
    if not 0 < port < 65536:
        raise refuse(f"there is no port {port}")
    if six is not None:
        try:
            host = ipaddress.IPv6Address(six).compressed
        except ValueError:
            raise refuse("it has no IPv6 address in its brackets") from None
    else:
        host = name.lower()
        labels = host.split(".")
        if any(not 0 < len(label) < 64 for label in labels):
            raise refuse("its host is not a name")
        if _NUMBER.fullmatch(labels[-1]):
            try:
                ipaddress.IPv4Address(host)
            except ValueError:
                raise refuse("its host is a number in a form that hides the address") from None
    return Url(scheme, host, port, (path or "/") + (query or ""))


def join(base: Url, location: str, what: str) -> Url:
    """Return the URL of a Location header, relative to ``base``. Raise BuildError as :func:`parse` does."""
    from urllib.parse import urljoin

    if len(location) > _LIMIT or not location or _UNFIT.search(location):
        return parse(location, what)  # which says why not
    if _ABSOLUTE.match(location):
        return parse(location, what)  # urljoin would make something of "http:" and "http:x"
    try:
        return parse(urljoin(str(base), location), what)
    except ValueError:
        raise BuildError(
            f"{what} is refused: it is not a URL: {visible(location.partition('?')[0], 200)}"
        ) from None


class Where(enum.IntEnum):
    """How far away an address is."""

    LOOPBACK = 0  # this machine, "any address" included, which connects to it
    LINK_LOCAL = 1  # the neighbours, and where clouds keep what belongs to a machine
    PRIVATE = 2
    PUBLIC = 3
    NOWHERE = 4  # groups, broadcast and what is reserved: no server has such an address


_RANGES: tuple[tuple[Where, tuple[str, ...]], ...] = (
    (Where.LOOPBACK, ("127.0.0.0/8", "0.0.0.0/8", "::/127")),
    # After the link-local ones: the metadata services of Oracle, Alibaba, Azure and AWS
    (
        Where.LINK_LOCAL,
        (
            "169.254.0.0/16",
            "fe80::/10",
            "192.0.0.0/24",
            "100.100.100.200/32",
            "168.63.129.16/32",
            "fd00:ec2::/32",
        ),
    ),
    (
        Where.PRIVATE,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"),
    ),
    (Where.NOWHERE, ("224.0.0.0/4", "240.0.0.0/4", "ff00::/8")),
)
_NETWORKS = [(where, ipaddress.ip_network(text)) for where, texts in _RANGES for text in texts]
# IPv6 addresses that stand for an IPv4 one: mapped, compatible, translated (RFC 6052, RFC 8215), 6to4, Teredo; with
# the bits to shift away, and whether they are inverted.
_EMBEDDED = [
    (ipaddress.IPv6Network(text), shift, inverted)
    for text, shift, inverted in (
        ("::ffff:0:0/96", 0, False),
        ("::ffff:0:0:0/96", 0, False),
        ("::/96", 0, False),
        ("64:ff9b::/96", 0, False),
        ("64:ff9b:1::/48", 0, False),
        ("2002::/16", 80, False),
        ("2001::/32", 0, True),
    )
]


def where(address: str) -> Where:
    """Return how far away an IP address is; one that embeds an IPv4 address is as near as that one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    for kind, network in _NETWORKS:
        if found.version == network.version and found in network:
            return kind
    if isinstance(found, ipaddress.IPv6Address):
        for six, shift, inverted in _EMBEDDED:
            if found in six:
                four = (int(found) >> shift) & 0xFFFFFFFF
                return where(str(ipaddress.IPv4Address(four ^ 0xFFFFFFFF if inverted else four)))
    return Where.PUBLIC


def literal(host: str) -> str | None:
    """Return the address that a host is written as, or that its name always means; None for other names."""
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def check_addresses(
    reach: Where | None, to: Url, addresses: Sequence[str], *, plain: bool = False
) -> BuildError | None:
    """Return why none of ``addresses`` may be connected to for ``to``, or None.

    ``reach`` is the farthest place that had a say in the target, None if only the user had: then every address is
    allowed, but plain http is spoken to this machine only, unless ``plain``. Otherwise a place may not lead to one
    that is nearer than itself, and only neighbours may lead to neighbours.
    """
    for address in addresses:
        kind = where(address)
        if to.scheme == "http" and kind != Where.LOOPBACK and not plain:
            return BuildError(
                f"{to.authority} is at {address}, and plain http is spoken to this machine only",
                hint="the registry has to offer https",
            )
        if reach is None:
            continue
        if kind == Where.NOWHERE or kind < reach or (kind == Where.LINK_LOCAL != reach):
            what = {Where.LOOPBACK: "this machine", Where.LINK_LOCAL: "a link-local address"}
            return BuildError(
                f"a redirect to {to.authority} is refused: {address} is "
                f"{what.get(kind, 'a private address' if kind == Where.PRIVATE else 'no address of a server')},"
                " and what sent us there is elsewhere",
                hint="a server must not lead into the network of its users",
            )
    return None


def check_redirect(
    source: Url,
    to: Url,
    addresses: Sequence[str] = (),
    reach: Where | None = Where.PUBLIC,
    *,
    plain: bool = False,
) -> BuildError | None:
    """Return why a redirect from ``source`` to ``to``, which has ``addresses``, is not followed, or None.

    ``addresses`` may be empty before a name is looked up: names that always mean this machine are known without.
    """
    if source.scheme == "https" and to.scheme == "http":
        return BuildError(
            f"a redirect from https to {to.scheme}://{to.authority} is refused: others could change what comes",
            hint="the server, or the proxy before it, has to name itself with https",
        )
    known = literal(to.host)
    return check_addresses(reach, to, addresses or ([known] if known else ()), plain=plain)
