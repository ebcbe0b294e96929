"""The rules of nf_tables at the forward hook, read over netlink into the form of :mod:`.verdicts`.

It only reads, and only what is asked for: machines can have thousands of rules, of kinds that this module
does not know. Each expression is decoded when it is reached. An unknown expression may do anything.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from . import verdicts as v
from .matches import match, target

FORWARD = 2  # NF_INET_FORWARD
INET, IPV4, IPV6 = 1, 2, 10  # NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENTS = 1, 4, 7, 10, 13  # NFT_MSG_GET…
_REQUEST, _DUMP, _INTERRUPTED = 0x1, 0x300, 0x10  # NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_FAMILY = struct.Struct("=BBH")  # struct nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_KIND = 0x3FFF  # NLA_TYPE_MASK
_RECEIVE = 1 << 17
_PATIENCE = 10.0

_MANY = 1 << 24
"""The limit for the rules or elements of one chain or set, in bytes."""

_DORMANT = 1  # NFT_TABLE_F_DORMANT
_MAP, _INTERVAL, _CONCATENATED = 8, 4, 128  # NFT_SET_MAP, _INTERVAL, _CONCAT
_END, _CATCHALL = 1, 2  # NFT_SET_ELEM_INTERVAL_END, _CATCHALL

_META = {1: "protocol", 4: "iif", 5: "oif", 6: "iifname", 7: "oifname", 15: "nfproto", 16: "l4proto"}
_CT = {0: "ct state", 1: "ct direction", 2: "ct status"}
"""The fields of a packet by their numbers NFT_META_… and NFT_CT_…."""

_NETWORK_HEADER = 1  # NFT_PAYLOAD_NETWORK_HEADER

_STATEMENTS = frozenset("counter dup last log notrack".split())
_CONDITIONS = frozenset(
    "byteorder connlimit dynset exthdr fib flow_offload hash inner limit numgen osf quota rt socket tunnel xfrm".split()
)
"""Expressions after which the rule always goes on, and those after which it may go on."""

_COUNTER, _HELPER = 1, 3  # NFT_OBJECT_COUNTER, NFT_OBJECT_CT_HELPER


@dataclass(frozen=True)
class Chain:
    """A chain at the forward hook."""

    family: int
    table: str
    name: str
    policy: int


@dataclass(frozen=True)
class Rule:
    """A rule, whose expressions are decoded while one iterates over it."""

    handle: int
    comment: str
    raw: bytes
    """The encoded expressions."""

    def __iter__(self) -> Iterator[v.Expression]:
        for kind, data in _items(self.raw):
            if kind == 1:  # NFTA_LIST_ELEM
                yield from _expression(data)


def chains() -> list[Chain]:
    """Return the filter chains at the forward hook, for IPv4, IPv6 and both, in active tables. Raises OSError."""
    dormant = {
        (family, said[1])
        for family, said in _ask(_GET_TABLE, 0)
        if _number(said.get(2, b"")) & _DORMANT  # NFTA_TABLE_FLAGS
    }
    found = []
    for family, said in _ask(_GET_CHAIN, 0):
        # NFTA_CHAIN_TABLE 1, _NAME 3, _HOOK 4, _POLICY 5, _TYPE 7; NFTA_HOOK_HOOKNUM 1
        if family not in (INET, IPV4, IPV6) or 4 not in said or said.get(7) != b"filter\0":
            continue
        if _number(_attributes(said[4]).get(1, b"")) == FORWARD and (family, said[1]) not in dormant:
            policy = _number(said[5]) if 5 in said else v.ACCEPT
            found.append(Chain(family, _text(said[1]), _text(said[3]), policy))
    return found


def rules(family: int, table: str, chain: str) -> list[Rule]:
    """Return the rules of one chain. Raises OSError."""
    asked = _attribute(1, table) + _attribute(2, chain)  # NFTA_RULE_TABLE, _CHAIN
    return [
        # NFTA_RULE_HANDLE, _USERDATA, _EXPRESSIONS
        Rule(_number(said.get(3, b"")), _comment(said.get(7, b"")), said.get(4, b""))
        for _, said in _ask(_GET_RULE, family, asked)
    ]


def read_set(family: int, table: str, name: str) -> v.Set | None:
    """Return a set; None if its kind is not known. Raises OSError, for a set that is too large as well."""
    # NFTA_SET_TABLE, _NAME; NFTA_SET_ELEM_LIST_TABLE, _SET
    asked = _attribute(1, table) + _attribute(2, name)
    ((_, said),) = _ask(_GET_SET, family, asked, dump=False)
    elements = [
        _attributes(data)
        for _, part in _ask(_GET_ELEMENTS, family, asked)
        for kind, data in _items(part.get(3, b""))  # NFTA_SET_ELEM_LIST_ELEMENTS
        if kind == 1  # NFTA_LIST_ELEM
    ]
    # NFTA_SET_FLAGS, _KEY_LEN, _DESC
    return _set(_number(said.get(3, b"")), _number(said[5]), _parts(said.get(9, b"")), elements)


def _ask(
    kind: int, family: int, asked: bytes = b"", *, dump: bool = True
) -> list[tuple[int, dict[int, bytes]]]:
    """Return the family and the attributes of each message of the answer.

    Raises InterruptedError if another process changed something meanwhile.
    """
    body = _FAMILY.pack(family, 0, 0) + asked
    flags = _REQUEST | (_DUMP if dump else 0)
    found: list[tuple[int, dict[int, bytes]]] = []
    total = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asks:
        asks.settimeout(_PATIENCE)
        asks.send(_HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM | kind, flags, 1, 0) + body)
        while total < _MANY:
            data = asks.recv(_RECEIVE)
            total += len(data)
            at = 0
            while at + _HEADER.size <= len(data):
                size, answer, marks, _, _ = _HEADER.unpack_from(data, at)
                inner = data[at + _HEADER.size : at + size]
                at += max(size + 3 & ~3, _HEADER.size)
                if marks & _INTERRUPTED:
                    raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
                if answer in (_ERROR, _DONE):
                    (error,) = struct.unpack_from("=i", inner)
                    if error:
                        raise OSError(-error, os.strerror(-error))
                    return found
                found.append((inner[0], _attributes(inner[_FAMILY.size :])))
                if not dump:
                    return found
    raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))


@dataclass
class Reading:
    """The rules and sets of one table for :func:`.verdicts.judge`; each is read once."""

    family: int
    table: str
    _rules: dict[str, list[Rule] | None] = field(default_factory=dict)
    _sets: dict[str, v.Set | None] = field(default_factory=dict)

    def rules(self, chain: str) -> list[Rule] | None:
        """Return the rules of a chain; None if they can't be read. Raises InterruptedError."""
        if chain not in self._rules:
            self._rules[chain] = _tried(rules, self.family, self.table, chain)
        return self._rules[chain]

    def sets(self, name: str) -> v.Set | None:
        """Return a set; None if it can't be read. Raises InterruptedError."""
        if name not in self._sets:
            self._sets[name] = _tried(read_set, self.family, self.table, name)
        return self._sets[name]


_T = TypeVar("_T")


def _tried(read: Callable[[int, str, str], _T], family: int, table: str, name: str) -> _T | None:
    try:
        return read(family, table, name)
    except InterruptedError:
        raise
    except (OSError, LookupError, ValueError, struct.error):
        return None


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < 4:
            break
        yield kind & _KIND, data[at + 4 : at + size]
        at += size + 3 & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    return dict(_items(data))


def _attribute(kind: int, text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape") + b"\0"
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def _number(data: bytes) -> int:
    """Return the number of an attribute; they are all in network byte order."""
    return int.from_bytes(data)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _comment(data: bytes) -> str:
    """Return the comment in a rule's user data.

    The user data is a list of type, length and value; type 0 is a comment (NFTNL_UDATA_RULE_COMMENT).
    """
    at = 0
    while at + 2 <= len(data):
        kind, size = data[at], data[at + 1]
        if kind == 0:
            return _text(data[at + 2 : at + 2 + size])
        at += 2 + size
    return ""


@lru_cache(maxsize=4096)
def _expression(data: bytes) -> tuple[v.Expression, ...]:
    """Decode an expression. The results are cached, because many rules have the same expressions."""
    try:
        said = _attributes(data)
        return _decode(_text(said[1]), _attributes(said.get(2, b"")))  # NFTA_EXPR_NAME, _DATA
    except (LookupError, ValueError, struct.error):
        return (v.Anything(),)


def _decode(name: str, said: dict[int, bytes]) -> tuple[v.Expression, ...]:
    """Decode an expression; the numbers are those of NFTA_META_…, NFTA_CMP_… and so on."""
    numbers = {number: _number(data) for number, data in said.items() if len(data) == 4}
    match name:
        case "meta" | "ct":
            if 1 not in said:  # it sets something that no condition here reads, such as a mark or a helper
                return ()
            names = _META if name == "meta" else _CT
            return (v.Load(numbers[1], names.get(numbers[2], "")),)
        case "payload":
            if 1 not in said:  # it changes the packet
                return (v.Anything(),)
            known = numbers[2] == _NETWORK_HEADER
            return (v.Load(numbers[1], "network header" if known else "", numbers[3], numbers[4]),)
        case "cmp":
            return (v.Compare(numbers[1], numbers[2], _value(said[3])),)
        case "bitwise" if not numbers.get(6, 0):  # NFT_BITWISE_MASK_XOR
            return (v.Mask(numbers[1], numbers[2], _value(said[4]), _value(said[5])),)
        case "bitwise":
            return (v.Perhaps(),)
        case "range":
            return (v.Between(numbers[1], _value(said[3]), _value(said[4]), numbers[2] == v.NOT_EQUAL),)
        case "lookup":
            found = v.Lookup(numbers[2], _text(said[1]), bool(numbers.get(5, 0) & 1), numbers.get(3) == 0)
            # A map to data puts it into a register.
            return (found,) if numbers.get(3, 0) == 0 else (found, v.Perhaps())
        case "immediate":
            data = _attributes(said[2])
            return (_verdict(data[2]),) if 2 in data else (v.Perhaps(),)
        case "reject":
            return (v.Verdict(v.DROP),)
        case "match":
            return match(_text(said[1]), numbers[2], said[3])
        case "target":
            return target(_text(said[1]))
        case "objref":
            if numbers.get(1) in (_COUNTER, _HELPER):
                return ()
            return (v.Perhaps(),)
        case _ if name in _STATEMENTS:
            return ()
        case _ if name in _CONDITIONS:
            return (v.Perhaps(),)
    return (v.Anything(),)


def _value(data: bytes) -> bytes:
    return _attributes(data)[1]  # NFTA_DATA_VALUE


def _verdict(data: bytes) -> v.Verdict:
    said = _attributes(data)  # NFTA_VERDICT_CODE, _CHAIN
    (code,) = struct.unpack(">i", said[1])
    return v.Verdict(code if code < 0 else code & 0xFF, _text(said.get(2, b"")))


def _parts(data: bytes) -> list[int]:
    """Return the sizes of the parts of a set's key, each in whole words (NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN)."""
    return [
        _number(_attributes(item)[1]) + 3 & ~3
        for kind, item in _items(_attributes(data).get(2, b""))
        if kind == 1
    ]


def _set(flags: int, size: int, parts: list[int], elements: list[dict[int, bytes]]) -> v.Set | None:
    """Return the set; ``parts`` are the sizes of a key that has more than one part."""
    found = []
    # NFTA_SET_ELEM_KEY 1, _DATA 2, _FLAGS 3, _EXPR 7, _KEY_END 10, _EXPRESSIONS 11
    keys = sorted(_value(said[1]) for said in elements if 1 in said)
    for said in elements:
        marks = _number(said.get(3, b""))
        if marks & _END:
            continue
        data = _attributes(said.get(2, b""))
        verdict = _verdict(data[2]) if 2 in data else None
        sure = 7 not in said and 11 not in said
        if marks & _CATCHALL:
            found.append(v.Element((), verdict, sure))
            continue
        low = _value(said[1])
        if not flags & _INTERVAL:
            found.append(v.Element(((low, low),), verdict, sure))
        elif 10 in said or parts:
            high = _value(said[10]) if 10 in said else low
            cut = parts or [size]
            if sum(cut) != len(low):
                return None
            starts = [sum(cut[:number]) for number in range(len(cut))]
            ranges = [
                (low[at : at + length], high[at : at + length])
                for at, length in zip(starts, cut, strict=True)
            ]
            found.append(v.Element(tuple(ranges), verdict, sure))
        else:
            # An interval ends where the next one begins, or at its own end element.
            after = bisect_right(keys, low)
            last = (1 << 8 * size if after == len(keys) else int.from_bytes(keys[after])) - 1
            found.append(v.Element(((low, last.to_bytes(size)),), verdict, sure))
    return v.Set(size, tuple(found))
