"""The built-in network (row X79): a bridge of this machine, a veth pair for each step, addresses from a pool, address
translation. All by netlink: no CNI plugin and no iptables binary is needed.

Runs in the supervised child, as root of the machine. The bridge and its tables are made by the first step that needs
them and go with the last one; what a killed step left goes when the next one comes, or at the next start. Steps can't
reach each other: their ports are isolated.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
import time
from typing import Any

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ..linux import mount as m
from . import STATE, NetworkError, firewall, foreign, pools, settings
from .leases import Pool

DEVICE = "buildfront0"
TABLE = "buildfront"
PORT = "bf"
"""The bridge, the tables, and what the ports' names begin with; a port is called by the number of its lease."""

_MARK = "02:62:66:64:00:00"
"""The bridge's hardware address: it has it from its first moment, and by it is known as ours, whoever made it."""

_COMPLETE = "buildfront"
"""The bridge's alias (IFLA_IFALIAS) from its last moment of being made."""

_FIRST, _LAST = 2, 4094
"""The numbers that a step can have, in any of the pools: the bridge itself is 1."""

_PATIENCE, _LOOK = 20, 0.05
"""How often, and after how many seconds, one looks again for a bridge that somebody else is making."""

_WARNINGS = "warnings.json"
"""A note in the pool's directory: what this kernel lacks."""

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
_PERMANENT = 0x80  # NUD_PERMANENT (linux/neighbour.h)
_NODAD = 0x02  # IFA_F_NODAD (linux/if_addr.h): the address is ours alone, and is needed at once


def _state() -> str:
    """The inode's number is used again when a namespace has gone, and its notes with it; the cookie is not."""
    number = str(os.stat("/proc/self/ns/net").st_ino)
    try:
        with socket.socket(socket.AF_UNIX) as own:
            number += (
                f"-{int.from_bytes(own.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)}"
            )
    except OSError:
        pass  # before Linux 5.14
    return os.path.join(STATE, number)


class Bridge:
    """Connects the network namespace of a process. ``addresses`` are the step's, ``gateways`` the machine's in the same
    network, IPv4 first; ``warnings`` say what this kernel lacks."""

    pid = 0

    def __init__(self, pid: int) -> None:
        self.addresses: tuple[str, ...] = ()
        self.gateways: tuple[str, ...] = ()
        self.dns: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._lease: tuple[int, int] | None = None
        self._made = False
        self._pool = Pool(_state())
        try:
            self._connect(pid)
        except (NetlinkError, OSError) as error:
            self.close()
            raise NetworkError(
                f"the network bridge can't be made: {error}; use --network host or none"
            ) from None
        except BaseException:
            self.close()
            raise

    def _connect(self, pid: int) -> None:
        with self._pool.locked(), IPRoute() as ip:
            stale = _remove_stale(ip, self._pool)
            # Before there is a bridge: a builder that is killed from here on has left something to find it by.
            self._lease = self._pool.take(_FIRST, _LAST, _ports(ip))
            if self._lease is None:
                raise NetworkError("all addresses of the bridge are taken")
            networks = self._bridge(ip, died=stale)
            self.warnings += settings.noted(self._pool.directory, _WARNINGS) or []
            number = self._lease[0]
            self.addresses = tuple(str(network[number]) for network in networks)
            self.gateways = tuple(str(network[1]) for network in networks)
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._port(ip, namespace, number)
                with _Inside(namespace) as inner:
                    self._configure(inner, networks)
            finally:
                os.close(namespace)

    def _bridge(self, ip: IPRoute, *, died: bool) -> list[Any]:
        """The networks of the bridge, which is made when there is none. ``died``: one that is half made is a killed
        process's; else somebody whose lock we don't see, in a container of this network, may be making it."""
        for again in range(_PATIENCE):
            index = _ours(ip)
            if index is None:
                break
            if ip.link("get", index=index)[0].get_attr("IFLA_IFALIAS") == _COMPLETE:
                return _networks(ip, index)
            if died or again == _PATIENCE - 1:
                _remove(ip, self._pool)
                break
            time.sleep(_LOOK)
        return self._make(ip)

    def _make(self, ip: IPRoute) -> list[Any]:
        uplink = _mtu(ip)
        more = {"mtu": uplink} if uplink else {}
        ip.link("add", ifname=DEVICE, kind="bridge", address=_MARK, **more)
        (index,) = ip.link_lookup(ifname=DEVICE)
        # A step may send router advertisements: the machine would take its way out by them (CVE-2020-10749).
        settings.deafen(DEVICE)
        warnings = []
        routes = _routes(ip)
        first = pools.choose(routes)
        if first is None:
            raise NetworkError("every network that a bridge might have is in use on this machine")
        networks: list[Any] = [first]
        if _has_ipv6(DEVICE):
            second = pools.choose6(routes)
            if second is None:
                warnings.append("steps have no IPv6: every network that a bridge might have is in use")
            else:
                networks.append(second)
        ip.link("set", index=index, state="up")
        for item in networks:
            flags = {"flags": _NODAD} if item.version == 6 else {}
            ip.addr("add", index=index, address=str(item[1]), prefixlen=item.prefixlen, **flags)
        warnings += self._translate(networks, _others(ip))
        settings.note(self._pool.directory, _WARNINGS, warnings)
        ip.link("set", index=index, ifalias=_COMPLETE)
        return networks

    def _translate(self, networks: list[Any], others: set[str]) -> list[str]:
        """What is wrong with it, for every step while the bridge is there."""
        wrong = []
        dropped = foreign.let_through(TABLE, DEVICE)
        for network in networks:
            # Nobody gets from one of the machine's networks to another by a setting that is there for our steps.
            closed = () if settings.forwards(network.version) else sorted(others - {"lo"})
            why = firewall.masquerade(TABLE, network, DEVICE, closed)
            why = why or settings.forward(self._pool.directory, network.version, others)
            why = why or dropped.get(network.version, "")
            if why:
                wrong.append(
                    f"steps reach this machine alone over IPv{network.version}: it can't forward for them ({why})"
                )
        return wrong

    def _port(self, ip: IPRoute, namespace: int, number: int) -> None:
        """The step's end has an address that we know: nobody else is answered under it, whatever he says of himself,
        nor are frames for it sent to another port."""
        name = f"{PORT}{number}"
        hardware = f"02:62:66:00:{number >> 8:02x}:{number & 255:02x}"
        (bridge,) = ip.link_lookup(ifname=DEVICE)
        mtu = ip.link("get", index=bridge)[0].get_attr("IFLA_MTU")
        # The other end is born in the step's namespace, and goes with it, whoever is killed when.
        peer = {"ifname": "eth0", "net_ns_fd": namespace, "mtu": mtu, "address": hardware}
        ip.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer)
        self._made = True
        (index,) = ip.link_lookup(ifname=name)
        ip.link("set", index=index, master=bridge, state="up")
        ip.brport("set", index=index, isolated=1, learning=0)
        ip.fdb("append", ifindex=index, lladdr=hardware, state=_PERMANENT)
        for address in self.addresses:
            family = {"family": 10} if ":" in address else {}
            ip.neigh("replace", dst=address, lladdr=hardware, ifindex=bridge, state=_PERMANENT, **family)

    def _configure(self, inner: IPRoute, networks: list[Any]) -> None:
        (loopback,) = inner.link_lookup(ifname="lo")
        inner.link("set", index=loopback, state="up")
        (index,) = inner.link_lookup(ifname="eth0")
        inner.link("set", index=index, state="up")
        for network, address, gateway in zip(networks, self.addresses, self.gateways, strict=True):
            flags = {"flags": _NODAD} if network.version == 6 else {}
            inner.addr("add", index=index, address=address, prefixlen=network.prefixlen, **flags)
            family = {"family": 10} if network.version == 6 else {}
            inner.route("add", dst="default", gateway=gateway, oif=index, **family)

    def words(self) -> str:
        """No process serves a bridge, so it says nothing."""
        return ""

    def close(self) -> None:
        """Give the address back; with the last one the bridge goes. Never raises."""
        if self._lease is None:
            return
        number, fd = self._lease
        self._lease = None
        try:
            with self._pool.locked(), IPRoute() as ip:
                if self._made:
                    _delete(ip, f"{PORT}{number}")
                self._pool.drop(number)
                os.close(fd)
                _remove_unused(ip, self._pool)
        except (OSError, NetlinkError):
            pass  # the next one that comes takes it away


class _Inside:
    """A netlink socket of another namespace: a socket belongs to the one that it is made in."""

    def __init__(self, namespace: int) -> None:
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            m.setns(namespace, m.CLONE_NEWNET)
            try:
                self._socket = IPRoute()
            finally:
                m.setns(own, m.CLONE_NEWNET)
        finally:
            os.close(own)

    def __enter__(self) -> IPRoute:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _ours(ip: IPRoute) -> int | None:
    """The number of the bridge; None where there is none. Raises NetworkError for a device of somebody else's."""
    for index in ip.link_lookup(ifname=DEVICE):
        if ip.link("get", index=index)[0].get_attr("IFLA_ADDRESS") != _MARK:
            raise NetworkError(
                f"this machine has a device {DEVICE} that is somebody else's; rename it, or use --network host or none"
            )
        return int(index)
    return None


def _networks(ip: IPRoute, index: int) -> list[Any]:
    found = [
        ipaddress.ip_interface(f"{item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}").network
        for item in ip.get_addr(index=index)
        if item["scope"] == 0
    ]
    return sorted(found, key=lambda network: network.version)


def _ports(ip: IPRoute) -> set[int]:
    """The numbers that a device has the name of: ours, those of a builder that we don't see, or anybody's."""
    names = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
    return {int(rest) for name in names if (rest := name.removeprefix(PORT)) != name and rest.isdecimal()}


def _routes(ip: IPRoute) -> list[pools.Route]:
    """All of this machine, but for the ways to everywhere."""
    found = []
    for family in (2, 10):
        for route in ip.get_routes(family=family):
            target = route.get_attr("RTA_DST")
            if target:
                network = ipaddress.ip_network(f"{target}/{route['dst_len']}", strict=False)
                away = any(route.get_attr(name) for name in ("RTA_GATEWAY", "RTA_MULTIPATH", "RTA_VIA"))
                found.append(pools.Route(network, on_link=not away))
    return found


def _has_ipv6(device: str) -> bool:
    path = f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
    return os.path.exists(path) and settings.read(path) == "0"


def _mtu(ip: IPRoute) -> int:
    """Of the device that the default route leaves by; 0 for none."""
    for route in ip.get_default_routes(family=2):
        index = route.get_attr("RTA_OIF")
        if index:
            return int(ip.link("get", index=index)[0].get_attr("IFLA_MTU"))
    return 0


def _others(ip: IPRoute) -> set[str]:
    """The names of the machine's devices that are not ours."""
    names = {str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()}
    return {name for name in names if name != DEVICE and not name.removeprefix(PORT).isdecimal()}


def _delete(ip: IPRoute, name: str) -> None:
    for index in ip.link_lookup(ifname=name):
        try:
            ip.link("del", index=index)
        except NetlinkError as error:
            if error.code != errno.ENODEV:  # the namespace of its other end has just gone
                raise


def _remove_stale(ip: IPRoute, pool: Pool) -> bool:
    """What killed steps left: their ports and their leases. Whether there was any."""
    found = False
    for number, held in pool.numbers().items():
        if not held:
            found = True
            for index in _enslaved(ip):
                if ip.link("get", index=index)[0].get_attr("IFLA_IFNAME") == f"{PORT}{number}":
                    _delete(ip, f"{PORT}{number}")
            pool.drop(number)
    return found


def _enslaved(ip: IPRoute) -> list[int]:
    """The ports of the bridge, of whichever builder."""
    index = _ours(ip)
    if index is None:
        return []
    return [int(link["index"]) for link in ip.get_links() if link.get_attr("IFLA_MASTER") == index]


def _remove_unused(ip: IPRoute, pool: Pool) -> None:
    """With no step left, all that we made on this machine."""
    _remove_stale(ip, pool)
    if not (pool.numbers() or pool.is_held() or _enslaved(ip)):
        _remove(ip, pool)


def _remove(ip: IPRoute, pool: Pool) -> None:
    if _ours(ip) is not None:
        _delete(ip, DEVICE)
    for version in (4, 6):
        firewall.remove(TABLE, version)
    foreign.withdraw()
    settings.restore(pool.directory, _others(ip))
    settings.forget(pool.directory, _WARNINGS)


class Hold:
    """Keeps the bridge from one step of a builder to the next: making it and taking it away costs more than a step."""

    def __init__(self) -> None:
        self._pool = Pool(_state())
        self._fd = -1
        try:
            with self._pool.locked():
                self._fd = self._pool.hold()
        except OSError:
            pass  # the step that needs it says so

    def release(self) -> None:
        """Let it go, with the bridge where no step of another builder has it. Never raises."""
        if self._fd < 0:
            return
        self.forget()
        recover()

    def forget(self) -> None:
        """A forked child's descriptor would hold the bridge as long as the child lives."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def examine() -> list[str]:
    """Make what a step needs in this network namespace, which is thrown away: what it lacks. Raises OSError and
    NetlinkError where no bridge can be made."""
    with IPRoute() as ip:
        ip.link("add", ifname=DEVICE, kind="bridge")
        (bridge,) = ip.link_lookup(ifname=DEVICE)
        ip.link("add", ifname=f"{PORT}2", kind="veth", peer={"ifname": "eth0"})
        (port,) = ip.link_lookup(ifname=f"{PORT}2")
        ip.link("set", index=port, master=bridge, state="up")
        ip.brport("set", index=port, isolated=1)
    lacks = [firewall.masquerade(TABLE, network, DEVICE) for network in (pools.POOLS[0], pools.POOLS6[0])]
    return [f"IPv{number}: {why}" for number, why in zip((4, 6), lacks, strict=True) if why]


def recover() -> None:
    """Take away what killed steps left in this network namespace. Never raises."""
    pool = Pool(_state())
    if not pool.is_used():
        return
    try:
        with pool.locked(), IPRoute() as ip:
            _remove_unused(ip, pool)
    except (OSError, NetlinkError):
        pass  # not ours to remove: an ordinary user's build
