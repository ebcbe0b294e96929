"""The choice of the built-in network's addresses on this machine. Pure: routes in, networks out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

Network4 = ipaddress.IPv4Network
Network6 = ipaddress.IPv6Network
_Pool = TypeVar("_Pool", ipaddress.IPv4Network, ipaddress.IPv6Network)

POOLS = (
    *(Network4(f"10.{number}.0.0/16") for number in range(213, 254)),
    *(Network4(f"172.{number}.0.0/16") for number in (31, 30, 29)),
    *(Network4(f"192.168.{number}.0/20") for number in (208, 192, 176)),
)
POOLS6 = tuple(Network6(f"fd62:7569:6c64:{number:x}::/64") for number in range(16))
"""Unique local addresses (RFC 4193)."""


@dataclass(frozen=True)
class Route:
    """The way of packets to ``target``: by a gateway, or directly to the host on the link."""

    target: Network4 | Network6
    on_link: bool


def choose(routes: Iterable[Route]) -> Network4 | None:
    """Return the first free IPv4 pool; see :func:`_best`."""
    return _best(POOLS, [route for route in routes if isinstance(route.target, Network4)])


def choose6(routes: Iterable[Route]) -> Network6 | None:
    """Return the first free IPv6 pool."""
    return _best(POOLS6, [route for route in routes if isinstance(route.target, Network6)])


def _best(pools: tuple[_Pool, ...], routes: list[Route]) -> _Pool | None:
    """Return the first pool that no route touches, or else the first that is only a part of a gateway's target.

    A VPN may have such a route for half of all addresses, and our route is more specific. Returns None if
    each pool is in use.
    """
    touched = {pool: [route for route in routes if route.target.overlaps(pool)] for pool in pools}
    for pool, by in touched.items():
        if not by:
            return pool
    for pool, by in touched.items():
        if all(not route.on_link and route.target.prefixlen < pool.prefixlen for route in by):
            return pool
    return None
