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
from typing import Any

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ..linux import mount as m
from . import STATE, NetworkError, firewall, foreign, settings
from .leases import Pool

DEVICE = "buildfront0"
TABLE = "buildfront"
PORT = "bf"
"""The bridge, the tables, and what the ports' names begin with; a port is called by the number of its lease."""

POOLS = tuple(ipaddress.IPv4Network(f"10.{number}.0.0/16") for number in range(213, 254))
"""The first that no address or route of this machine overlaps is taken."""

POOL6 = ipaddress.IPv6Network("fd62:7569:6c64::/64")
"""Unique local addresses (RFC 4193)."""

_WARNINGS = "warnings.json"
"""A note in the pool's directory: what this kernel lacks."""

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
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
            _remove_stale(ip, self._pool)
            networks = self._bridge(ip)
            first = networks[0]
            self._lease = self._pool.take(2, first.num_addresses - 2)
            if self._lease is None:
                raise NetworkError(f"all addresses of {first} are taken")
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

    def _bridge(self, ip: IPRoute) -> list[Any]:
        """The networks of the bridge, which is made when there is none."""
        found = ip.link_lookup(ifname=DEVICE)
        if found:
            own = [
                ipaddress.ip_interface(f"{item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}").network
                for item in ip.get_addr(index=found[0])
                if item["scope"] == 0
            ]
            if any(network.version == 4 for network in own):
                return sorted(own, key=lambda network: network.version)
            ip.link("del", index=found[0])  # a killed process left it half made
        network = _free(ip)
        uplink = _mtu(ip)
        ip.link("add", ifname=DEVICE, kind="bridge", **({"mtu": uplink} if uplink else {}))
        (index,) = ip.link_lookup(ifname=DEVICE)
        networks: list[Any] = [network]
        if _has_ipv6(DEVICE):
            networks.append(POOL6)
        ip.link("set", index=index, state="up")
        for item in reversed(networks):  # the IPv4 address says that it is complete
            flags = {"flags": _NODAD} if item.version == 6 else {}
            ip.addr("add", index=index, address=str(item[1]), prefixlen=item.prefixlen, **flags)
        settings.note(self._pool.directory, _WARNINGS, self._translate(networks, _others(ip)))
        return networks

    def _translate(self, networks: list[Any], others: set[str]) -> list[str]:
        """What is wrong with it, for every step while the bridge is there."""
        wrong = []
        dropped = foreign.let_through(TABLE, DEVICE)
        for network in networks:
            why = firewall.masquerade(TABLE, network, DEVICE)
            why = why or settings.forward(self._pool.directory, network.version, others)
            why = why or dropped.get(network.version, "")
            if why:
                wrong.append(
                    f"steps reach this machine alone over IPv{network.version}: it can't forward for them ({why})"
                )
        return wrong

    @staticmethod
    def _port(ip: IPRoute, namespace: int, number: int) -> None:
        name = f"{PORT}{number}"
        (bridge,) = ip.link_lookup(ifname=DEVICE)
        mtu = ip.link("get", index=bridge)[0].get_attr("IFLA_MTU")
        # The other end is born in the step's namespace, and goes with it, whoever is killed when.
        peer = {"ifname": "eth0", "net_ns_fd": namespace, "mtu": mtu}
        ip.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer)
        (index,) = ip.link_lookup(ifname=name)
        ip.link("set", index=index, master=bridge, state="up")
        ip.brport("set", index=index, isolated=1)

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


def _free(ip: IPRoute) -> ipaddress.IPv4Network:
    """A network that nothing here uses. Raises NetworkError."""
    used = []
    for route in ip.get_routes(family=2):
        target = route.get_attr("RTA_DST")
        if target:
            used.append(ipaddress.ip_network(f"{target}/{route['dst_len']}", strict=False))
    for pool in POOLS:
        if not any(pool.overlaps(network) for network in used):
            return pool
    raise NetworkError(f"every network from {POOLS[0]} to {POOLS[-1]} is in use on this machine")


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


def _remove_stale(ip: IPRoute, pool: Pool) -> None:
    """What killed steps left: their ports and their leases."""
    for number, held in pool.numbers().items():
        if not held:
            _delete(ip, f"{PORT}{number}")
            pool.drop(number)


def _remove_unused(ip: IPRoute, pool: Pool) -> None:
    """With no lease left, all that we made on this machine."""
    _remove_stale(ip, pool)
    if pool.numbers() or pool.is_held():
        return
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
    lacks = [firewall.masquerade(TABLE, network, DEVICE) for network in (POOLS[0], POOL6)]
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
