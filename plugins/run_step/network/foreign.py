"""Chains of other programs that drop what this machine forwards, as docker and ufw let iptables do it by its policy.

Where iptables' FORWARD would drop a bridge's packets for no rule but its policy, two rules at its end accept them, and
go with the bridge: what somebody's rules drop is dropped. Chains of another kind are never changed, but told of, with
what would help. Knows nothing of steps.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETRULE, nft_rule_msg
from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

from ..linux.socket_option import read_option
from .firewall import ACCEPT, DROP, EQUAL, FAMILIES, IIFNAME, OIFNAME, interface, why

COMMENT = "buildfront"
"""Of the rules that are ours, by which they are found again; iptables shows it."""

_ANY = 0  # NFPROTO_UNSPEC: a dump of every family
_INET = 1  # NFPROTO_INET
_NAMES = {_INET: "inet", 2: "ip", 10: "ip6"}
_FORWARD = 2  # NF_INET_FORWARD
_IPTABLES = ("filter", "FORWARD")
"""The table and the chain of iptables-nft, which belong to everybody who uses iptables."""


@dataclass(frozen=True)
class _Chain:
    family: int
    table: str
    name: str
    policy: int

    def __str__(self) -> str:
        return f"{_NAMES[self.family]} {self.table} {self.name}"

    @property
    def is_of_iptables(self) -> bool:
        return self.family != _INET and (self.table, self.name) == _IPTABLES


def let_through(table: str, device: str) -> dict[int, str]:
    """See to it that what ``device`` forwards is accepted by all chains but those of ``table``.

    For each of IPv4 and IPv6 where something drops it: what, and how somebody can change that. Never raises."""
    found = {}
    try:
        for chain in _chains():
            said = _let_through(chain, device) if chain.table != table else ""
            if said:
                found.update(
                    {version: said for version in FAMILIES if chain.family in (_INET, FAMILIES[version])}
                )
    except (NetlinkError, OSError) as error:
        return dict.fromkeys(FAMILIES, why(error))
    except Exception:  # noqa: BLE001 - a rule that is not understood, of which there are many kinds
        return {}
    for version in FAMILIES:
        said = "" if version in found else _legacy(version, device)
        if said:
            found[version] = said
    return found


def withdraw() -> None:
    """Take our rules out of iptables' chains again. Never raises."""
    try:
        for chain in _chains():
            if chain.is_of_iptables:
                for rule in filter(_is_ours, _rules(chain)):
                    _change("del", chain, handle=rule.get_attr("NFTA_RULE_HANDLE"))
    except Exception:  # noqa: BLE001 - a kernel or a user that has none, or rules that are not understood
        return


def _let_through(chain: _Chain, device: str) -> str:
    rules = _rules(chain)
    theirs = [rule for rule in rules if not _is_ours(rule)]
    last = bool(theirs) and _drops_all(theirs[-1])
    if not last and chain.policy != DROP:
        return ""
    if any(_is_about(rule, device) for rule in theirs):
        return ""  # somebody has thought of it
    if last or not chain.is_of_iptables:
        return f"{chain} drops what it has no rule for: {_remedy(chain, device)}"
    if len(theirs) == len(rules):
        for key in (IIFNAME, OIFNAME):
            # As iptables writes them itself: it understands its tables no more with rules of another form.
            words = [*interface(key, EQUAL, device), [genex("counter", {})], verdict(ACCEPT)]
            _change("add", chain, expressions=words, userdata={"value": COMMENT})
    return ""


def _remedy(chain: _Chain, device: str) -> str:
    if chain.table == "firewalld":
        return f"firewall-cmd --zone=trusted --add-interface={device}"
    if chain.is_of_iptables:
        program = "iptables" if chain.family == FAMILIES[4] else "ip6tables"
        return _iptables(program, device)
    return "; ".join(f"nft insert rule {chain} {key} {device} accept" for key in ("iifname", "oifname"))


def _iptables(program: str, device: str) -> str:
    return "; ".join(f"{program} -I FORWARD {flag} {device} -j ACCEPT" for flag in ("-i", "-o"))


def _chains() -> list[_Chain]:
    """All at the forward hook, of each family and of both."""
    nft = NFTables(nfgen_family=_ANY)
    try:
        found = [item for item in nft.get_chains() if item["nfgen_family"] in _NAMES]
    finally:
        nft.close()
    return [
        _Chain(
            item["nfgen_family"],
            str(item.get_attr("NFTA_CHAIN_TABLE")),
            str(item.get_attr("NFTA_CHAIN_NAME")),
            int(item.get_attr("NFTA_CHAIN_POLICY")),
        )
        for item in found
        if (hook := item.get_attr("NFTA_CHAIN_HOOK")) is not None
        and hook.get_attr("NFTA_HOOK_HOOKNUM") == _FORWARD
        and item.get_attr("NFTA_CHAIN_TYPE") == "filter"
    ]


def _rules(chain: _Chain) -> list[Any]:
    """Of this chain alone: a machine can have thousands."""
    wanted = nft_rule_msg()
    wanted["attrs"] = [["NFTA_RULE_TABLE", chain.table], ["NFTA_RULE_CHAIN", chain.name]]
    nft = NFTables(nfgen_family=chain.family)
    try:
        return list(nft.request_get(wanted, NFT_MSG_GETRULE))
    finally:
        nft.close()


def _change(what: str, chain: _Chain, **more: Any) -> None:
    nft = NFTables(nfgen_family=chain.family)
    try:
        nft.rule(what, table=chain.table, chain=chain.name, **more)
    finally:
        nft.close()


def _is_ours(rule: Any) -> bool:
    return str(rule.get_attr("NFTA_RULE_USERDATA")) == COMMENT


def _expressions(rule: Any) -> list[tuple[str, Any]]:
    """The name and the data of each expression; of one that is not understood, no name."""
    return [
        (item.get_attr("NFTA_EXPR_NAME"), item.get_attr("NFTA_EXPR_DATA"))
        if hasattr(item, "get_attr")
        else ("", None)
        for item in rule.get_attr("NFTA_RULE_EXPRESSIONS") or ()
    ]


def _is_about(rule: Any, device: str) -> bool:
    """Whether it compares something with the name of the device."""
    for name, data in _expressions(rule):
        if name == "cmp":
            against = data.get_attr("NFTA_CMP_DATA")
            value = against.get_attr("NFTA_DATA_VALUE") if against is not None else None
            if value and bytes(value).rstrip(b"\0") == device.encode():
                return True
    return False


def _drops_all(rule: Any) -> bool:
    """Whether it drops or rejects whatever comes to it: a condition would be one more expression."""
    expressions = [(name, data) for name, data in _expressions(rule) if name not in ("counter", "log")]
    if len(expressions) != 1:
        return False
    name, data = expressions[0]
    if name == "immediate":
        said = data.get_attr("NFTA_IMMEDIATE_DATA").get_attr("NFTA_DATA_VERDICT")
        return said is not None and said.get_attr("NFTA_VERDICT_CODE") == "NF_DROP"
    return name == "reject" or (name == "target" and "REJECT" in str(data.get_attr("NFTA_TARGET_NAME")))


# The older tables of iptables, which netlink does not know (linux/netfilter_ipv4/ip_tables.h, ip6_tables.h).

_INFO = struct.Struct("=32sI5I5III")
"""struct ipt_getinfo: name, valid_hooks, hook_entry, underflow, num_entries, size."""

_ENTRIES = 40  # offsetof(struct ipt_get_entries, entrytable)
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; IPv6 has the same
_TARGET_OFFSET = {4: 88, 6: 140}
"""Where that field is in struct ipt_entry and ip6t_entry."""

_VERDICT_DROP = -DROP - 1
_VERDICT = 32  # sizeof(struct xt_entry_target)


def _legacy(version: int, device: str) -> str:
    """The same for iptables-legacy, which is only looked at."""
    names, family, level = {
        4: ("/proc/self/net/ip_tables_names", socket.AF_INET, socket.IPPROTO_IP),
        6: ("/proc/self/net/ip6_tables_names", socket.AF_INET6, socket.IPPROTO_IPV6),
    }[version]
    try:
        with open(names, encoding="ascii") as stream:
            if "filter" not in stream.read().split():
                return ""  # to ask for it would make it
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as asked:
            info = _INFO.unpack(read_option(asked, level, _GET_INFO, b"filter".ljust(_INFO.size, b"\0")))
            size, policy_at, begin = info[-1], info[7 + _FORWARD], info[2 + _FORWARD]
            request = struct.pack("=32sI", b"filter", size).ljust(_ENTRIES + size, b"\0")
            entries = read_option(asked, level, _GET_ENTRIES, request)[_ENTRIES:]
    except OSError:
        return ""  # this kernel has none, or they have just changed: no reason to warn
    target_at = _TARGET_OFFSET[version]
    (offset,) = struct.unpack_from("=H", entries, policy_at + target_at)
    (policy,) = struct.unpack_from("=i", entries, policy_at + offset + _VERDICT)
    chain = entries[begin:policy_at]
    if policy != _VERDICT_DROP or device.encode() + b"\0" in chain:
        return ""
    program = "iptables-legacy" if version == 4 else "ip6tables-legacy"
    return f"FORWARD of {program} drops what it has no rule for: {_iptables(program, device)}"
