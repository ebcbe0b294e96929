"""Row X79: which addresses the built-in network has, by the routes of the machine."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import row

from run_step.network.pools import POOLS, POOLS6, Route, choose, choose6


def route(text, *, on_link=False):
    return Route(ipaddress.ip_network(text), on_link)


@row("X79")
@pytest.mark.parametrize(
    ("routes", "chosen"),
    [
        ([], "10.213.0.0/16"),
        ([route("198.51.100.0/24", on_link=True)], "10.213.0.0/16"),
        ([route("10.213.7.0/24")], "10.214.0.0/16"),
        ([route("10.213.0.0/16", on_link=True)], "10.214.0.0/16"),
        ([route("10.213.0.0/16")], "10.214.0.0/16"),
        # More specific ways to everywhere, as VPNs have them, come after ours.
        ([route("0.0.0.0/1"), route("128.0.0.0/1")], "10.213.0.0/16"),
        ([route("0.0.0.0/1"), route("128.0.0.0/1"), route("10.213.0.0/24", on_link=True)], "10.214.0.0/16"),
        # One that nobody has any way to is better.
        ([route("10.0.0.0/8")], "172.31.0.0/16"),
        ([route("10.0.0.0/8", on_link=True), route("172.16.0.0/12")], "192.168.208.0/20"),
        ([route("0.0.0.0/0", on_link=True)], None),
        ([route("fd00::/8", on_link=True)], "10.213.0.0/16"),
    ],
)
def test_the_pool_of_IPv4(routes, chosen):
    assert choose(routes) == (None if chosen is None else ipaddress.ip_network(chosen))


@row("X79")
@pytest.mark.parametrize(
    ("routes", "chosen"),
    [
        ([], "fd62:7569:6c64::/64"),
        ([route("fd62:7569:6c64::/64", on_link=True)], "fd62:7569:6c64:1::/64"),
        ([route("fd00::/8")], "fd62:7569:6c64::/64"),
        ([route("fd00::/8", on_link=True)], None),
    ],
)
def test_the_pool_of_IPv6(routes, chosen):
    assert choose6(routes) == (None if chosen is None else ipaddress.ip_network(chosen))


networks = st.builds(
    lambda address, size: ipaddress.ip_network((address, size), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(1, 32),
)


@row("X79")
@given(st.lists(st.builds(Route, networks, st.booleans()), max_size=20))
def test_a_pool_takes_no_address_that_somebody_has(routes):
    found = choose(routes)
    if found is not None:
        for item in routes:
            if item.target.overlaps(found):
                assert not item.on_link and item.target.prefixlen < found.prefixlen


@row("X79")
def test_every_pool_has_room_for_all_numbers():
    from run_step.network import bridge

    assert all(pool[bridge._LAST] != pool.broadcast_address for pool in POOLS)
    assert all(pool.prefixlen == 64 for pool in POOLS6)
