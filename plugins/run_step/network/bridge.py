"""The built-in network (row X79): a bridge, a veth pair for each step, addresses from a pool, address translation.

Everything is done over netlink: no CNI plugin and no iptables binary is needed.

It runs in the supervised child, as root of the machine. The first step that needs the bridge and its tables
makes them, and the last one removes them. The leftovers of a killed step are removed when the next step
connects, or at the next start. Steps can't reach each other: their ports are isolated.
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
from . import firewall, foreign, pools, ports, settings
from .leases import Pool
from .model import STATE, NetworkError

DEVICE = "buildfront0"
TABLE = "buildfront"
"""The names of the bridge, and of its nf_tables tables."""

_MARK = "02:62:66:64:00:00"
"""The bridge's hardware address, set when it is created. A bridge with this address is ours, whichever
builder made it.
"""

_COMPLETE, _LEAVING = "buildfront", "buildfront: being removed"
"""Values of the bridge's alias (IFLA_IFALIAS): set as the last step of making it, and as the first step of
removing it.
"""

_FIRST, _LAST = 2, 4094
"""The range of the numbers of steps, in each of the pools; the bridge itself is 1."""

_PATIENCE, _LOOK = 20, 0.05
"""The number of looks at a bridge that another builder is making or removing, and the seconds between them."""

_TRIES = 3
_LOST = (errno.EEXIST, errno.ENODEV, errno.EINVAL)
"""The number of attempts to connect a step, and the kernel's errors if a builder whose lock we don't see was
faster: it has made the bridge or a port of the same name, or has removed the bridge (the last two).
"""

_WARNINGS = "warnings.json"
"""The note in the pool's directory that lists missing features of this kernel."""

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
_NODAD = 0x02  # IFA_F_NODAD (linux/if_addr.h): no other host has the address, and it is needed at once


def _state() -> str:
    """Return the state directory of this network namespace.

    The kernel reuses an inode number after its namespace has gone, and old notes would be found under it. It
    does not reuse the cookie.
    """
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
    """The bridge network of one step.

    ``addresses`` are the step's, ``gateways`` the machine's in the same network, IPv4 first. ``warnings``
    name the missing features of this kernel.
    """

    pid = 0

    def __init__(self, pid: int) -> None:
        self.addresses: tuple[str, ...] = ()
        self.gateways: tuple[str, ...] = ()
        self.dns: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._lease: tuple[int, int] | None = None
        self._port = 0
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
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._pool.locked(), IPRoute() as ip:
                _remove_stale(ip, self._pool)
                networks = self._join(ip, namespace)
                self.warnings += settings.texts(self._pool.directory, _WARNINGS)
                with _Inside(namespace) as inner:
                    self._configure(inner, networks)
        finally:
            os.close(namespace)

    def _join(self, ip: IPRoute, namespace: int) -> list[Any]:
        """Make the port, and the bridge if there is none; return the bridge's networks."""
        for again in reversed(range(_TRIES)):
            # Taken before the bridge is made: if this builder is killed from here on, the lease leads to what
            # it has left.
            self._lease = self._pool.take(_FIRST, _LAST, ports.taken(ip))
            if self._lease is None:
                raise NetworkError("all addresses of the bridge are taken")
            number, fd = self._lease
            try:
                bridge = self._bridge(ip)
                networks = _networks(ip, bridge)
                self.addresses = tuple(str(network[number]) for network in networks)
                self.gateways = tuple(str(network[1]) for network in networks)
                self._port = ports.add(ip, bridge, namespace, number, self.addresses)
                os.write(fd, str(self._port).encode())
                # Checked after the port is made. A builder that removes the bridge marks it first and then
                # looks for ports, so one of the two always sees the other.
                if _is_complete(ip.link("get", index=bridge)[0]):
                    return networks
            except NetlinkError as error:
                if error.code not in _LOST or not again:
                    raise
            self._give_back(ip)
        raise NetworkError("another process removes the network bridge again and again")

    def _bridge(self, ip: IPRoute) -> int:
        """Return the index of the bridge; make it if there is none, or only a half that a killed builder left."""
        link = _settled(ip)
        if link is not None:
            if _is_complete(link):
                return int(link["index"])
            _remove(ip, self._pool, link)
        uplink = _mtu(ip)
        more = {"mtu": uplink} if uplink else {}
        ip.link("add", ifname=DEVICE, kind="bridge", address=_MARK, **more)
        (link,) = ip.link("get", ifname=DEVICE)
        try:
            self._complete(ip, int(link["index"]))
        except BaseException:
            now = _ours(ip)
            if now is not None and now["index"] == link["index"]:  # else another builder has made a new one
                _remove(ip, self._pool, link)
            raise
        return int(link["index"])

    def _complete(self, ip: IPRoute, index: int) -> None:
        # A step may send router advertisements, and the machine would change its default route
        # (CVE-2020-10749).
        settings.deafen(DEVICE)
        warnings = []
        routes = _routes(ip)
        first = pools.choose(routes)
        if first is None:
            raise NetworkError("every network that a bridge might have is in use on this machine")
        networks: list[Any] = [first]
        if settings.has_ipv6(DEVICE):
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

    def _translate(self, networks: list[Any], others: set[str]) -> list[str]:
        """Set up address translation and forwarding; return a warning for each failure.

        The warnings hold for every step while the bridge exists.
        """
        wrong = []
        dropped = foreign.let_through(TABLE, DEVICE)
        for network in networks:
            # We turn forwarding on for our steps; it must not connect the machine's other networks with each
            # other.
            closed = () if settings.forwards(network.version) else sorted(others - {"lo"})
            why = firewall.masquerade(TABLE, network, DEVICE, closed)
            why = why or settings.forward(self._pool.directory, network.version, others)
            if why:
                wrong.append(
                    f"steps reach only this machine over IPv{network.version}: it can't forward for them ({why})"
                )
            elif (
                network.version in dropped
            ):  # by the policy of the chain: another of its rules may accept the packets
                wrong.append(
                    f"steps may reach only this machine over IPv{network.version}: {dropped[network.version]}"
                )
        return wrong

    def _configure(self, inner: IPRoute, networks: list[Any]) -> None:
        for name in ("lo", "eth0"):
            index = int(inner.link("get", ifname=name)[0]["index"])
            inner.link("set", index=index, state="up")
        for network, address, gateway in zip(networks, self.addresses, self.gateways, strict=True):
            flags = {"flags": _NODAD} if network.version == 6 else {}
            inner.addr("add", index=index, address=address, prefixlen=network.prefixlen, **flags)
            family = {"family": 10} if network.version == 6 else {}
            inner.route("add", dst="default", gateway=gateway, oif=index, **family)

    def words(self) -> str:
        """Return an empty text: a bridge is served by no process."""
        return ""

    def close(self) -> None:
        """Release the address, and the bridge with the last address. Never raises."""
        if self._lease is None:
            return
        try:
            with self._pool.locked(), IPRoute() as ip:
                self._give_back(ip)
                _remove_unused(ip, self._pool)
        except (OSError, NetlinkError, NetworkError):
            pass  # the next step's builder removes it

    def _give_back(self, ip: IPRoute) -> None:
        if self._lease is None:
            return
        (number, fd), self._lease = self._lease, None
        try:
            if self._port:
                ports.remove(ip, self._port)
                self._port = 0
                link = _ours(ip)
                if link is not None:
                    ports.forget(ip, link["index"], number, self.addresses)
            self._pool.drop(number)
        finally:
            os.close(fd)


class _Inside:
    """A netlink socket in another namespace; a socket belongs to the namespace in which it was created."""

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


def _device(ip: IPRoute) -> Any:
    """Return the device with the bridge's name, ours or not; None if there is none."""
    try:
        return ip.link("get", ifname=DEVICE)[0]
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        return None


def _is_ours(link: Any) -> bool:
    return bool(link.get_attr("IFLA_ADDRESS") == _MARK)


def _is_complete(link: Any) -> bool:
    return _is_ours(link) and bool(link.get_attr("IFLA_IFALIAS") == _COMPLETE)


def _ours(ip: IPRoute) -> Any:
    """Return the bridge; None if there is none, or the device is not ours."""
    link = _device(ip)
    return link if link is not None and _is_ours(link) else None


def _settled(ip: IPRoute) -> Any:
    """Return the bridge once it is complete; None if there is none.

    Wait for an incomplete bridge for a while: a builder in a container on this network, whose lock we don't
    see, may be making or removing it. Raises NetworkError if the device belongs to another program.
    """
    for _ in range(_PATIENCE):
        link = _device(ip)
        if link is None or _is_complete(link):
            break
        if not _is_ours(link):
            raise NetworkError(
                f"this machine has a device {DEVICE} that is not buildfront's; rename it, or use --network host or none"
            )
        time.sleep(_LOOK)
    return link


def _networks(ip: IPRoute, index: int) -> list[Any]:
    found = [
        ipaddress.ip_interface(f"{item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}").network
        for item in ip.get_addr(index=index)
        if item["scope"] == 0
    ]
    return sorted(found, key=lambda network: network.version)


def _routes(ip: IPRoute) -> list[pools.Route]:
    """Return all routes of this machine except the default routes."""
    found = []
    for family in (2, 10):
        for route in ip.get_routes(family=family):
            target = route.get_attr("RTA_DST")
            if target:
                network = ipaddress.ip_network(f"{target}/{route['dst_len']}", strict=False)
                away = any(route.get_attr(name) for name in ("RTA_GATEWAY", "RTA_MULTIPATH", "RTA_VIA"))
                found.append(pools.Route(network, on_link=not away))
    return found


def _mtu(ip: IPRoute) -> int:
    """Return the MTU of the device of the default route; 0 if there is no default route."""
    for route in ip.get_default_routes(family=2):
        index = route.get_attr("RTA_OIF")
        if index:
            return int(ip.link("get", index=index)[0].get_attr("IFLA_MTU"))
    return 0


def _others(ip: IPRoute) -> set[str]:
    """Return the names of the machine's devices except the bridge; call it while the bridge has no port."""
    return {str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()} - {DEVICE}


def _remove_stale(ip: IPRoute, pool: Pool) -> None:
    """Remove the ports and leases of killed steps."""
    stale = [number for number, held in pool.numbers().items() if not held]
    link = _ours(ip) if stale else None
    if link is not None:
        bridge = int(link["index"])
        networks, connected = _networks(ip, bridge), ports.of(ip, bridge)
        for number in stale:
            if (port := pool.said(number)) in connected:
                ports.remove(ip, port)
            ports.forget(ip, bridge, number, [str(network[number]) for network in networks])
    for number in stale:
        pool.drop(number)


def _remove_unused(ip: IPRoute, pool: Pool) -> None:
    """Remove everything that we made on this machine, if no step is left."""
    _remove_stale(ip, pool)
    if pool.numbers() or pool.is_held():
        return
    link = _settled(ip)
    if link is not None:
        complete = _is_complete(link)
        ip.link("set", index=link["index"], ifalias=_LEAVING)
        if ports.of(ip, link["index"]):  # they belong to a builder whose leases we don't see
            if complete:
                ip.link("set", index=link["index"], ifalias=_COMPLETE)
            return
    _remove(ip, pool, link)


def _remove(ip: IPRoute, pool: Pool, link: Any) -> None:
    """Remove the tables, the settings and the bridge.

    The device goes last: while it exists, no other builder begins to make one. The tables keep the machine's
    networks apart as long as it forwards for us.
    """
    settings.restore(pool.directory, _others(ip))
    settings.forget(pool.directory, _WARNINGS)
    for version in (4, 6):
        firewall.remove(TABLE, version)
    foreign.withdraw()
    if link is not None:
        ports.remove(ip, int(link["index"]))


class Hold:
    """A hold on the bridge between two steps of a builder.

    Making and removing the bridge takes longer than a step.
    """

    def __init__(self) -> None:
        self._pool = Pool(_state())
        self._fd = -1
        try:
            with self._pool.locked():
                self._fd = self._pool.hold()
        except OSError:
            pass  # the step that needs the bridge reports it

    def release(self) -> None:
        """Release the hold, and remove the bridge if no step of another builder uses it. Never raises."""
        if self._fd < 0:
            return
        self.forget()
        recover()

    def forget(self) -> None:
        """Close the descriptor in a forked child, where it would hold the bridge as long as the child lives."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def examine() -> list[str]:
    """Make a step's bridge in this network namespace, a throw-away one; return what is missing.

    Raises OSError and NetlinkError if no bridge can be made.
    """
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with IPRoute() as ip:
            ip.link("add", ifname=DEVICE, kind="bridge")
            ports.add(ip, socket.if_nametoindex(DEVICE), namespace, _FIRST, [])
    finally:
        os.close(namespace)
    lacks = [firewall.masquerade(TABLE, network, DEVICE) for network in (pools.POOLS[0], pools.POOLS6[0])]
    return [f"IPv{number}: {why}" for number, why in zip((4, 6), lacks, strict=True) if why]


def recover() -> None:
    """Remove the leftovers of killed steps in this network namespace. Never raises.

    They are found by the notes of the pool. A bridge of ours without ports is removed too: its builder may
    have run in a container, and its notes are gone with the container.
    """
    pool = Pool(_state())
    if not (pool.is_used() or _exists(DEVICE)):
        return
    try:
        with pool.locked(), IPRoute() as ip:
            _remove_unused(ip, pool)
    except (OSError, NetlinkError, NetworkError):
        pass  # not ours to remove: this is a build of an unprivileged user


def _exists(device: str) -> bool:
    try:
        return bool(socket.if_nametoindex(device))
    except OSError:
        return False
