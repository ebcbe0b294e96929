"""Address translation for our networks, and isolation of their ports from each other, by nf_tables over netlink.

There is one table for each address family, made and deleted as a whole. No binary is needed. The module knows
nothing of steps.
"""

from __future__ import annotations

import errno
import ipaddress
import sys
from collections.abc import Iterable
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETRULE, nft_rule_msg
from pyroute2.nftables.expressions import genex, masq, verdict
from pyroute2.nftables.main import NFTables

FAMILIES = {4: 2, 6: 10}
"""NFPROTO_IPV4, NFPROTO_IPV6 (linux/netfilter.h)."""

DROP, ACCEPT = 0, 1  # NF_DROP, NF_ACCEPT
_SOURCE_NAT = 100  # NF_IP_PRI_NAT_SRC
_NETWORK_HEADER = 1  # NFT_PAYLOAD_NETWORK_HEADER
_FILTER = 0  # NF_IP_PRI_FILTER
IIFNAME, OIFNAME = 6, 7  # NFT_META_IIFNAME, NFT_META_OIFNAME
EQUAL, _NOT_EQUAL = 0, 1  # NFT_CMP_EQ, NFT_CMP_NEQ
_CT_STATE = 0  # NFT_CT_STATE
_CHAINS = {"input": 1, "forward": 2, "postrouting": 4}
"""The chains that we make, and their hooks: NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_POST_ROUTING
(linux/netfilter.h).
"""

_COMMENT = "buildfront"
"""The comment of each rule of ours, by which a table is recognized as ours; nft shows it."""

_KNOWN = 2 | 4  # of connections that exist or are related to one (NF_CT_STATE_BIT)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _data(raw: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", raw)]}


def _compare(operation: int, raw: bytes) -> list[Any]:
    return [genex("cmp", {"sreg": 1, "op": operation, "data": _data(raw)})]


def _rule(network: Network, device: str) -> list[list[Any]]:
    """Masquerade packets from ``network`` that leave by a device other than ``device``."""
    size = network.max_prefixlen // 8
    source = {"dreg": 1, "base": _NETWORK_HEADER, "offset": 12 if network.version == 4 else 8, "len": size}
    mask = {
        "sreg": 1,
        "dreg": 1,
        "len": size,
        "mask": _data(network.netmask.packed),
        "xor": _data(bytes(size)),
    }
    return [
        [genex("payload", source)],
        [genex("bitwise", mask)],
        _compare(EQUAL, network.network_address.packed),
        *interface(OIFNAME, _NOT_EQUAL, device),
        masq(),
    ]


def interface(key: int, operation: int, device: str) -> list[list[Any]]:
    """Compare the name of the device that a packet came by or leaves by (IIFNAME, OIFNAME)."""
    return [[genex("meta", {"dreg": 1, "key": key})], _compare(operation, device.encode() + b"\0")]


def _apart(device: str) -> list[list[Any]]:
    """Drop packets forwarded from ``device`` back to it, so that no step reaches another by way of the machine."""
    return [*interface(IIFNAME, EQUAL, device), *interface(OIFNAME, EQUAL, device), verdict(DROP)]


def _unknown() -> list[list[Any]]:
    """Match packets that neither belong to a known connection nor are related to one."""
    state = {"dreg": 1, "key": _CT_STATE}
    mask = {
        "sreg": 1,
        "dreg": 1,
        "len": 4,
        "mask": _data(_KNOWN.to_bytes(4, sys.byteorder)),
        "xor": _data(bytes(4)),
    }
    return [[genex("ct", state)], [genex("bitwise", mask)], _compare(EQUAL, bytes(4))]


def _unasked(device: str) -> list[list[Any]]:
    """Drop new connections to a step from hosts that route by this machine; answers to a step pass."""
    return [*interface(OIFNAME, EQUAL, device), *_unknown(), verdict(DROP)]


def _closed(other: str, device: str) -> list[list[Any]]:
    """Drop new connections from ``other`` to networks other than that of ``device``, which the rule before covers."""
    parts = [*interface(IIFNAME, EQUAL, other), *interface(OIFNAME, _NOT_EQUAL, device)]
    return [*parts, *_unknown(), verdict(DROP)]


def _loopback(device: str) -> list[list[Any]]:
    """Drop packets from steps to the machine's loopback addresses, which it may route (route_localnet)."""
    target = {"dreg": 1, "base": _NETWORK_HEADER, "offset": 16, "len": 1}
    return [
        *interface(IIFNAME, EQUAL, device),
        [genex("payload", target)],
        _compare(EQUAL, bytes([127])),
        verdict(DROP),
    ]


def masquerade(table: str, network: Network, device: str, closed: Iterable[str] = ()) -> str:
    """Make the table, in place of an old one, and forward nothing new from the devices ``closed`` to other networks.

    Returns the empty string, or the reason why this kernel can't; no table is left then.
    """
    remove(table, network.version)
    try:
        nft = NFTables(nfgen_family=FAMILIES[network.version])
    except OSError as error:
        return str(error.strerror or error)

    def chain(name: str, hook: str, kind: str, priority: int, *rules: list[list[Any]]) -> None:
        nft.chain("add", table=table, name=name, hook=hook, type=kind, policy=ACCEPT, priority=priority)
        for rule in rules:
            nft.rule("add", table=table, chain=name, expressions=rule, userdata={"value": _COMMENT})

    try:
        if table in _tables(nft):
            return f"nf_tables: the table {table} is not buildfront's"
        nft.table("add", name=table)
        try:
            # The rules that keep networks apart come first, so that no way is open for a moment that is
            # closed later.
            rules = [_apart(device), _unasked(device), *(_closed(other, device) for other in closed)]
            chain("forward", "forward", "filter", _FILTER, *rules)
            if network.version == 4:
                chain("input", "input", "filter", _FILTER, _loopback(device))
            chain("postrouting", "postrouting", "nat", _SOURCE_NAT, _rule(network, device))
        except (NetlinkError, OSError):
            nft.table("del", name=table)
            raise
    except (NetlinkError, OSError) as error:
        return why(error)
    finally:
        nft.close()
    return ""


def remove(table: str, version: int) -> None:
    """Delete the table of one family if it exists and holds only what we make.

    Never raises: a kernel without tables has none to delete.
    """
    try:
        nft = NFTables(nfgen_family=FAMILIES[version])
    except OSError:
        return
    try:
        for item in nft.get_tables():
            if item.get_attr("NFTA_TABLE_NAME") == table and _is_ours(
                nft, table, item.get_attr("NFTA_TABLE_USE")
            ):
                nft.table("del", name=table)
    except Exception:  # noqa: BLE001 - no tables in this kernel, no permission, or unknown kinds of rules
        return
    finally:
        nft.close()


def _is_ours(nft: NFTables, table: str, parts: int) -> bool:
    """Whether the table is one of ours, not another program's table of the same name.

    ``parts`` is the number of chains, sets and other objects in it. It may be 0: we may have been killed
    before there was any.
    """
    chains = [item for item in nft.get_chains() if item.get_attr("NFTA_CHAIN_TABLE") == table]
    if len(chains) != parts or any(_CHAINS.get(_name(item), -1) != _hook(item) for item in chains):
        return False
    wanted = nft_rule_msg()
    wanted["attrs"] = [["NFTA_RULE_TABLE", table]]
    rules = nft.request_get(wanted, NFT_MSG_GETRULE)
    return all(
        rule.get_attr("NFTA_RULE_USERDATA") == _COMMENT
        for rule in rules
        if rule.get_attr("NFTA_RULE_TABLE") == table
    )


def _name(chain: Any) -> str:
    return str(chain.get_attr("NFTA_CHAIN_NAME"))


def _hook(chain: Any) -> int | None:
    hook = chain.get_attr("NFTA_CHAIN_HOOK")
    return None if hook is None else int(hook.get_attr("NFTA_HOOK_HOOKNUM"))


def _tables(nft: NFTables) -> list[str]:
    """Return the names of all tables. Raises NetlinkError if the kernel has none, or we may not see them."""
    return [str(item.get_attr("NFTA_TABLE_NAME")) for item in nft.get_tables()]


def why(error: Exception) -> str:
    """Return a short text for an error of the kernel."""
    number = getattr(error, "code", None) or getattr(error, "errno", None)
    return f"nf_tables: {errno.errorcode.get(number, '') if number else error}".strip()
