"""Ports of a bridge: for each step a veth pair, whose other end is in the step's network namespace.

A step's hardware address follows from its number, and the machine knows it beforehand: whatever a step says of itself,
it gets no frame that is another's. Knows nothing of leases, nor whose the bridge is.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from . import settings

PREFIX = "bf"
"""What the names begin with; the rest is the number."""

_PERMANENT, _NOARP = 0x80, 0x40  # NUD_PERMANENT, NUD_NOARP (linux/neighbour.h)
_MASTER = 0x04  # NTF_MASTER: the entry is the bridge's, not the port's own


def taken(ip: IPRoute) -> set[int]:
    """The numbers that a device has the name of: ours, those of a builder that we don't see, or anybody's."""
    names = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
    return {int(rest) for name in names if (rest := name.removeprefix(PREFIX)) != name and rest.isdecimal()}


def of(ip: IPRoute, bridge: int) -> set[int]:
    """The indexes of the ports of the bridge, of whichever builder."""
    return {int(link["index"]) for link in ip.get_links(master=bridge)}


def add(ip: IPRoute, bridge: int, namespace: int, number: int, addresses: Iterable[str]) -> int:
    """Connect ``namespace``, a descriptor, by a device ``eth0`` in it; the index of our end.

    Raises NetlinkError, and nothing is left then: EEXIST where a device has the name, ENODEV or EINVAL where the bridge
    has gone."""
    name, hardware = f"{PREFIX}{number}", _hardware(number)
    mtu = ip.link("get", index=bridge)[0].get_attr("IFLA_MTU")
    # The other end is born in the step's namespace, and goes with it, whoever is killed when.
    peer = {"ifname": "eth0", "net_ns_fd": namespace, "mtu": mtu, "address": hardware}
    ip.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer)
    index = socket.if_nametoindex(name)
    try:
        # For the day that the bridge goes while the step runs: a port of none is a device of the machine's.
        settings.deafen(name)
        ip.link("set", index=index, master=bridge, state="up")
        # Nothing is learnt from its frames, and none is sent there on the chance that it is meant: what is for a
        # hardware address that the bridge does not know goes nowhere. Without the entry that would be all of them.
        ip.brport("set", index=index, isolated=1, learning=0, unicast_flood=0)
        ip.fdb("add", ifindex=index, lladdr=hardware, state=_NOARP, flags=_MASTER)
        for address in addresses:
            target = _neighbour(bridge, address)
            ip.neigh("replace", **target, lladdr=hardware, state=_PERMANENT)
    except BaseException:
        remove(ip, index)
        raise
    return index


def remove(ip: IPRoute, index: int) -> None:
    """By its index: another one may have its name by now."""
    try:
        ip.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:  # the namespace of its other end has gone
            raise


def forget(ip: IPRoute, bridge: int, number: int, addresses: Iterable[str]) -> None:
    """What the machine knew of a step's addresses, which the bridge keeps when a port goes."""
    try:
        socket.if_nametoindex(f"{PREFIX}{number}")
    except OSError:
        pass
    else:
        return  # another builder has given the number away again
    for address in addresses:
        try:
            ip.neigh("del", **_neighbour(bridge, address))
        except NetlinkError as error:
            if error.code not in (errno.ENOENT, errno.ENODEV):
                raise


def _hardware(number: int) -> str:
    return f"02:62:66:00:{number >> 8:02x}:{number & 255:02x}"


def _neighbour(bridge: int, address: str) -> dict[str, Any]:
    return {"dst": address, "ifindex": bridge, "family": 10 if ":" in address else 2}
