"""Chains of other programs that drop what this machine forwards, as docker and ufw let iptables do it by its policy.

Where the policy of iptables' FORWARD would drop a bridge's packets, two rules at its end accept them, and go with the
bridge: what somebody's rules drop is dropped. Chains of another kind are never changed, but told of, with what would
help. Knows nothing of steps, and of rules no more than :mod:`.verdicts` says of them.
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
"""Of the rules that are ours, by which they are found again; iptables shows it."""

_NAMES = {tables.INET: "inet", tables.IPV4: "ip", tables.IPV6: "ip6"}
_IPTABLES = "filter"
"""The table of iptables-nft that belongs to everybody who uses iptables."""

_TABLES_OF_IPTABLES = (_IPTABLES, "mangle", "security")
_FORWARD = "FORWARD"

_KEYS = {IIFNAME: "iifname", OIFNAME: "oifname"}

_TRIES = 5
"""How often one reads what somebody else changes meanwhile."""

_Connection = tuple[v.Packet, v.Packet]
_T = TypeVar("_T")

_OUTSIDE = {4: "198.18.0.1", 6: "2001:db8::1"}
"""Addresses that nobody has, by which one asks for the way out (RFC 2544, RFC 3849)."""


def let_through(table: str, device: str) -> dict[int, str]:
    """See to it that what ``device``, a bridge with its addresses, forwards is accepted by all chains but those of
    ``table``.

    For each of IPv4 and IPv6 where it is certain that something drops it: what, and how somebody can change that.
    Never raises: what can't be read or understood is no reason to fail."""
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
    """Take our rules out of iptables' chains again. Never raises."""
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
    """The chains but for those of our own table."""
    try:
        return [chain for chain in _settled(tables.chains) if chain.table != table]
    except Exception:  # noqa: BLE001 - this kernel has none, or we may not see them
        return []


def _settled(read: Callable[[], _T]) -> _T:
    """What is read while nobody changes it."""
    for _ in range(_TRIES):
        try:
            return read()
        except InterruptedError:
            continue
    return read()


def _said(version: int, look: Callable[[], str]) -> dict[int, str]:
    """What was found, by the version; nothing where it can't be looked at: that is no reason to fail."""
    try:
        said = look()
    except Exception:  # noqa: BLE001 - of the many kinds of rules and of kernels
        return {}
    return {version: said} if said else {}


def _connection(version: int, device: str) -> _Connection:
    """Of somebody behind the device to somebody outside, as far as is known."""
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
    """The device that the way out leads by; None where there is none."""
    try:
        (route,) = ip.route("get", family=family, dst=target)
        index = int(route.get_attr("RTA_OIF"))
        return socket.if_indextoname(index), index
    except (NetlinkError, OSError, TypeError, ValueError):
        return None


def _nft(chain: tables.Chain, device: str, connection: Callable[[], _Connection]) -> str:
    """Let it through where that is iptables' policy alone; what else drops it."""
    own: set[tuple[str, str]] = set()

    def judged() -> list[frozenset[v.Outcome]]:
        reading = tables.Reading(chain.family, chain.table)
        rules = reading.rules(chain.name)
        if not rules and chain.policy != v.DROP:
            return []
        own.update(found for rule in rules or () if (found := _accepts(rule)))
        # What others have said; ours may be there already.
        theirs = rules if rules is None else [rule for rule in rules if not _accepts(rule)]

        def read(name: str) -> list[tables.Rule] | None:
            return theirs if name == chain.name else reading.rules(name)

        return [v.judge(packet, chain.name, read, reading.sets) for packet in connection()]

    outcomes = _settled(judged)
    how = _how(outcomes, chain.policy)
    undecided = any(found & {v.Outcome.END, v.Outcome.UNKNOWN} for found in outcomes)
    if _is_of_iptables(chain) and chain.policy == v.DROP and how != _BY_RULE and undecided:
        # Where it may be but a part of what steps send as well: two rules at the end do no harm.
        wanted = [key for key, field in _KEYS.items() if (field, device) not in own]
        if all(_add(chain, key, device) for key in wanted):
            return ""
    return f"{_NAMES[chain.family]} {chain.table} {chain.name} {how}: {_remedy(chain, device)}" if how else ""


_BY_POLICY, _BY_RULE = "drops what it has no rule for", "drops it by a rule"


def _how(outcomes: Iterable[frozenset[v.Outcome]], policy: int) -> str:
    """How a connection is dropped, of which each direction has these outcomes; the empty string unless it is certain
    of one of them."""
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
    """The field and the device that a rule of ours is about; None for others, of the same comment too."""
    if rule.comment != COMMENT:
        return None
    match list(rule):
        case [v.Load(register, field), v.Compare(compared, v.EQUAL, name), v.Verdict(v.ACCEPT)]:
            if register == compared and field in _KEYS.values():
                return field, name.rstrip(b"\0").decode(errors="surrogateescape")
    return None


def _add(chain: tables.Chain, key: int, device: str) -> bool:
    """Whether it could be added."""
    # As iptables writes them itself: it understands its tables no more with rules of another form.
    words = [*interface(key, EQUAL, device), [genex("counter", {})], verdict(v.ACCEPT)]
    try:
        _change("add", chain, expressions=words, userdata={"value": COMMENT})
    except Exception:  # noqa: BLE001 - whoever it is told may know why
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
    """The same for iptables-legacy, which is only looked at."""
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
