"""Chains of other programs that drop packets that this machine forwards, such as those of docker and ufw.

If the policy of iptables' FORWARD chain would drop a bridge's packets, two rules at the end of the chain
accept them; they are removed with the bridge. Packets that a rule of another program drops stay dropped.
Chains of other kinds are never changed: they are reported, with a remedy. The module knows nothing of steps,
and of rules only what :mod:`.verdicts` says of them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, TypeVar

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

from . import legacy, tables
from . import verdicts as v
from .firewall import EQUAL, FAMILIES, IIFNAME, OIFNAME, interface

COMMENT = "buildfront"
"""The comment of our rules, by which they are found again; iptables shows it."""

_NAMES = {tables.INET: "inet", tables.IPV4: "ip", tables.IPV6: "ip6"}
_IPTABLES = "filter"
"""The table of iptables-nft, which all users of iptables share."""

_TABLES_OF_IPTABLES = (_IPTABLES, "mangle", "security")
_FORWARD = "FORWARD"

_KEYS = {IIFNAME: "iifname", OIFNAME: "oifname"}

_TRIES = 5
"""The number of attempts to read rules that another process changes meanwhile."""

_Connection = tuple[v.Packet, v.Packet]
_T = TypeVar("_T")

_OUTSIDE = {4: "198.18.0.1", 6: "2001:db8::1"}
"""Addresses that no host has, used to ask for the default route (RFC 2544, RFC 3849)."""


def let_through(table: str, device: str) -> dict[int, str]:
    """Make all chains except those of ``table`` accept the packets that the bridge ``device`` forwards.

    The bridge has its addresses already. Returns, by IP version, how packets are certainly dropped and how to
    change that. Never raises: an unreadable or unknown rule is not a reason to fail.
    """
    found: dict[int, str] = {}

    @lru_cache
    def connection(version: int) -> _Connection:
        return _connection(version, device)

    for chain in _others(table):
        for version, family in FAMILIES.items():
            if version not in found and chain.family in (tables.INET, family):
                found |= _said(version, partial(_nft, chain, device, partial(connection, version)))
    for version in FAMILIES:
        if version not in found:
            found |= _said(version, partial(_legacy, version, device, partial(connection, version)))
    return found


def withdraw() -> None:
    """Remove our rules from iptables' chains. Never raises."""
    for chain in _others(""):
        if not _is_of_iptables(chain):
            continue
        try:
            for rule in _settled(partial(tables.rules, chain.family, chain.table, chain.name)):
                if _accepts(rule):
                    _change("del", chain, handle=rule.handle)
        except Exception:  # noqa: BLE001 - the chain has gone, or can't be changed any more
            continue


def _others(table: str) -> list[tables.Chain]:
    """Return the chains except those of our own table."""
    try:
        return [chain for chain in _settled(tables.chains) if chain.table != table]
    except Exception:  # noqa: BLE001 - this kernel has none, or we may not see them
        return []


def _settled(read: Callable[[], _T]) -> _T:
    """Call ``read`` again until no other process has changed the rules meanwhile."""
    for _ in range(_TRIES):
        try:
            return read()
        except InterruptedError:
            continue
    return read()


def _said(version: int, look: Callable[[], str]) -> dict[int, str]:
    """Return the finding by IP version; nothing if the rules can't be read, which is not a reason to fail."""
    try:
        said = look()
    except Exception:  # noqa: BLE001 - there are many kinds of rules and of kernels
        return {}
    return {version: said} if said else {}


def _connection(version: int, device: str) -> _Connection:
    """Return the connection of a host behind the device to one outside, as far as it is known."""
    inner = (device, socket.if_nametoindex(device))
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with IPRoute() as ip:
        networks = [
            ipaddress.ip_interface(f"{item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}").network
            for item in ip.get_addr(family=family, index=inner[1])
            if item["scope"] == 0
        ]
        uplink = _uplink(ip, family, _OUTSIDE[version])
    return v.connection(version, inner, uplink, networks[0] if len(networks) == 1 else None)


def _uplink(ip: IPRoute, family: int, target: str) -> v.Device | None:
    """Return the device of the default route; None if there is none."""
    try:
        (route,) = ip.route("get", family=family, dst=target)
        index = int(route.get_attr("RTA_OIF"))
        return socket.if_indextoname(index), index
    except (NetlinkError, OSError, TypeError, ValueError):
        return None


def _nft(chain: tables.Chain, device: str, connection: Callable[[], _Connection]) -> str:
    """Let packets through if only the policy of iptables' chain drops them; report anything else that drops them."""
    own: set[tuple[str, str]] = set()

    def judged() -> list[frozenset[v.Outcome]]:
        reading = tables.Reading(chain.family, chain.table)
        rules = reading.rules(chain.name)
        if not rules and chain.policy != v.DROP:
            return []
        own.update(found for rule in rules or () if (found := _accepts(rule)))
        # The verdict of the rules of others; ours may be there already.
        theirs = rules if rules is None else [rule for rule in rules if not _accepts(rule)]

        def read(name: str) -> list[tables.Rule] | None:
            return theirs if name == chain.name else reading.rules(name)

        return [v.judge(packet, chain.name, read, reading.sets) for packet in connection()]

    outcomes = _settled(judged)
    how = _how(outcomes, chain.policy)
    undecided = any(found & {v.Outcome.END, v.Outcome.UNKNOWN} for found in outcomes)
    if _is_of_iptables(chain) and chain.policy == v.DROP and how != _BY_RULE and undecided:
        # Even if the chain drops only a part of what steps send, two rules at its end do no harm.
        wanted = [key for key, field in _KEYS.items() if (field, device) not in own]
        if all(_add(chain, key, device) for key in wanted):
            return ""
    return f"{_NAMES[chain.family]} {chain.table} {chain.name} {how}: {_remedy(chain, device)}" if how else ""


_BY_POLICY, _BY_RULE = "drops what it has no rule for", "drops it by a rule"


def _how(outcomes: Iterable[frozenset[v.Outcome]], policy: int) -> str:
    """Return how a connection is dropped; the empty string unless one of its directions certainly is.

    ``outcomes`` has the possible outcomes of each direction.
    """
    how = ""
    for found in outcomes:
        if found == {v.Outcome.DROP}:
            return _BY_RULE
        if policy == v.DROP and found <= {v.Outcome.DROP, v.Outcome.END}:
            how = _BY_POLICY
    return how


def _is_of_iptables(chain: tables.Chain) -> bool:
    return chain.family != tables.INET and (chain.table, chain.name) == (_IPTABLES, _FORWARD)


def _accepts(rule: tables.Rule) -> tuple[str, str] | None:
    """Return the field and the device of a rule of ours; None for other rules, even those with the same comment."""
    if rule.comment != COMMENT:
        return None
    match list(rule):
        case [v.Load(register, field), v.Compare(compared, v.EQUAL, name), v.Verdict(v.ACCEPT)]:
            if register == compared and field in _KEYS.values():
                return field, name.rstrip(b"\0").decode(errors="surrogateescape")
    return None


def _add(chain: tables.Chain, key: int, device: str) -> bool:
    """Add a rule that accepts the device's packets; return whether that worked."""
    # In the form that iptables itself writes: it can't read its tables if a rule has another form.
    words = [*interface(key, EQUAL, device), [genex("counter", {})], verdict(v.ACCEPT)]
    try:
        _change("add", chain, expressions=words, userdata={"value": COMMENT})
    except Exception:  # noqa: BLE001 - the warning names the chain, and the administrator may know the reason
        return False
    return True


def _change(what: str, chain: tables.Chain, **more: Any) -> None:
    nft = NFTables(nfgen_family=chain.family)
    try:
        nft.rule(what, table=chain.table, chain=chain.name, **more)
    finally:
        nft.close()


def _remedy(chain: tables.Chain, device: str) -> str:
    if chain.table == "firewalld":
        return f"firewall-cmd --zone=trusted --add-interface={device}"
    if chain.family != tables.INET and chain.name == _FORWARD and chain.table in _TABLES_OF_IPTABLES:
        return _iptables("iptables" if chain.family == tables.IPV4 else "ip6tables", chain.table, device)
    where = f"{_NAMES[chain.family]} {chain.table} {chain.name}"
    return "; ".join(f"nft insert rule {where} {key} {device} accept" for key in _KEYS.values())


def _iptables(program: str, table: str, device: str) -> str:
    words = program if table == _IPTABLES else f"{program} -t {table}"
    return "; ".join(f"{words} -I {_FORWARD} {flag} {device} -j ACCEPT" for flag in ("-i", "-o"))


def _legacy(version: int, device: str, connection: Callable[[], _Connection]) -> str:
    """Return the same for iptables-legacy, whose rules are only read."""
    program = "iptables-legacy" if version == 4 else "ip6tables-legacy"
    for table in legacy.tables(version):
        if table.is_empty and table.policy != v.DROP:
            continue
        outcomes = [
            v.judge(packet, str(table.forward), table.rules, lambda _: None) for packet in connection()
        ]
        how = _how(outcomes, table.policy)
        if how:
            where = program if table.name == _IPTABLES else f"{program} -t {table.name}"
            return f"{_FORWARD} of {where} {how}: {_iptables(program, table.name, device)}"
    return ""
