"""The ports of a bridge: a veth pair for each step, with the other end in the step's network namespace.

A step's hardware address follows from its number, so the machine knows it beforehand: whatever a step claims,
it gets no frame of another step. The module knows nothing of leases, nor of who owns the bridge.
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
"""The prefix of the names; the number follows."""

_PERMANENT, _NOARP = 0x80, 0x40  # NUD_PERMANENT, NUD_NOARP (linux/neighbour.h)
_MASTER = 0x04  # NTF_MASTER: the entry is the bridge's, not the port's own


def taken(ip: IPRoute) -> set[int]:
    """Return the numbers that appear in the names of devices: ours, those of a builder that we don't see, any."""
    names = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
    return {int(rest) for name in names if (rest := name.removeprefix(PREFIX)) != name and rest.isdecimal()}


def of(ip: IPRoute, bridge: int) -> set[int]:
    """Return the indexes of the ports of the bridge, of all builders."""
    return {int(link["index"]) for link in ip.get_links(master=bridge)}


def add(ip: IPRoute, bridge: int, namespace: int, number: int, addresses: Iterable[str]) -> int:
    """Connect ``namespace``, a descriptor, by a device ``eth0`` in it; return the index of our end.

    Raises NetlinkError and leaves nothing behind: EEXIST if a device has the name, ENODEV or EINVAL if the
    bridge has gone.
    """
    name, hardware = f"{PREFIX}{number}", _hardware(number)
    mtu = ip.link("get", index=bridge)[0].get_attr("IFLA_MTU")
    # The other end is created in the step's namespace, so it goes with the namespace, whichever process is
    # killed.
    peer = {"ifname": "eth0", "net_ns_fd": namespace, "mtu": mtu, "address": hardware}
    ip.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer)
    index = socket.if_nametoindex(name)
    try:
        # If the bridge is removed while the step runs, its port becomes an ordinary device of the machine.
        settings.deafen(name)
        ip.link("set", index=index, master=bridge, state="up")
        # The bridge learns no address from the step's frames, and floods none to it: a frame for an unknown
        # hardware address goes nowhere. So this entry is needed.
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
    """Remove a port by its index; another device may have its name by now."""
    try:
        ip.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:  # the namespace of its other end has gone
            raise


def forget(ip: IPRoute, bridge: int, number: int, addresses: Iterable[str]) -> None:
    """Delete the machine's neighbour entries for a step, which outlive the step's port."""
    try:
        socket.if_nametoindex(f"{PREFIX}{number}")
    except OSError:
        pass
    else:
        return  # another builder has used the number again
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
