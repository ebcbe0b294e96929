"""The tables of iptables-legacy, which netlink does not show, read into the form of :mod:`.verdicts`.

It only reads, and does not make a table by asking for it (linux/netfilter_ipv4/ip_tables.h,
linux/netfilter_ipv6/ip6_tables.h).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..linux.socket_option import read_option
from . import verdicts as v
from .matches import match, target

_FORWARD = 2  # NF_INET_FORWARD

_INFO = struct.Struct("=32sI5I5III")
"""struct ipt_getinfo: name, valid_hooks, hook_entry, underflow, num_entries, size."""

_ENTRIES = 40  # offsetof(struct ipt_get_entries, entrytable)
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; IPv6 has the same

_PART = struct.Struct("=H29sB")
"""The first fields of struct xt_entry_match and xt_entry_target: size, name, revision."""

_RETURN = -5  # XT_RETURN

_VIA_IN, _VIA_OUT, _SOURCE, _TARGET, _PROTOCOL = 0x01, 0x02, 0x08, 0x10, 0x40  # IPT_INV_…, and IP6T_INV_…


@dataclass(frozen=True)
class _Form:
    """The offsets of fields in struct ipt_entry and ip6t_entry, and of the structs before them."""

    names: str
    family: int
    level: int
    size: int
    """The size of an address."""

    source: int
    """The offset of the source address in the header of a packet."""

    flags: int
    """The offset of the byte of flags, followed by the inverted ones; those about the protocol are in ``protocol``."""

    protocol: int
    goto: int
    other: int
    """The flags of conditions that are not decided here: fragments, the type of service."""

    matches: int


_FORMS = {
    4: _Form("/proc/self/net/ip_tables_names", socket.AF_INET, socket.IPPROTO_IP, 4, 12, 82, 80, 2, 1, 112),
    6: _Form(
        "/proc/self/net/ip6_tables_names", socket.AF_INET6, socket.IPPROTO_IPV6, 16, 8, 131, 128, 4, 2, 168
    ),
}


@dataclass(frozen=True)
class Table:
    """A table with a chain FORWARD, which begins at ``forward``; rules and chains are named by their offsets."""

    version: int
    name: str
    entries: bytes
    forward: int
    end: int
    """The offset of the policy."""

    @property
    def is_empty(self) -> bool:
        """Whether the table has no rules and accepts everything."""
        return self.forward == self.end

    @property
    def policy(self) -> int:
        """The code of the policy's verdict."""
        (*_, verdict) = _rule(self.version, self.entries, self.end)[0]
        return verdict.code if isinstance(verdict, v.Verdict) else v.ACCEPT

    def rules(self, chain: str) -> Iterator[v.Rule]:
        """Yield the rules from the offset ``chain`` on.

        They end with FORWARD, or never: each other chain ends with a rule that returns.
        """
        at = int(chain)
        while at < len(self.entries) and at != self.end:
            rule, size = _rule(self.version, self.entries, at)
            yield rule
            if size <= 0:
                return
            at += size


def tables(version: int) -> list[Table]:
    """Return the tables that exist. Raises OSError if the kernel has none, or they have just changed."""
    form = _FORMS[version]
    with open(form.names, encoding="ascii") as stream:
        names = stream.read().split()
    found = []
    with socket.socket(form.family, socket.SOCK_RAW, socket.IPPROTO_RAW) as asked:
        for name in names:
            request = name.encode()
            info = _INFO.unpack(read_option(asked, form.level, _GET_INFO, request.ljust(_INFO.size, b"\0")))
            if not info[1] & 1 << _FORWARD:
                continue
            size = info[-1]
            wanted = struct.pack("=32sI", request, size).ljust(_ENTRIES + size, b"\0")
            entries = read_option(asked, form.level, _GET_ENTRIES, wanted)[_ENTRIES:]
            found.append(Table(version, name, entries, info[2 + _FORWARD], info[7 + _FORWARD]))
    return found


def _rule(version: int, entries: bytes, at: int) -> tuple[list[v.Expression], int]:
    """Return a rule, and its size."""
    form = _FORMS[version]
    target_at, size = struct.unpack_from("=HH", entries, at + form.matches - (24 if version == 4 else 28))
    try:
        found = [*_conditions(form, entries[at : at + form.matches])]
        part = at + form.matches
        while part < at + target_at:
            length, name, revision = _PART.unpack_from(entries, part)
            found += match(_name(name), revision, entries[part + _PART.size : part + length])
            part += max(length, _PART.size)
        length, name, _ = _PART.unpack_from(entries, at + target_at)
        if name.rstrip(b"\0"):
            return [*found, *target(_name(name))], size
        (code,) = struct.unpack_from("=i", entries, at + target_at + _PART.size)
        goto = bool(entries[at + form.flags] & form.goto)
        return [*found, _verdict(code, at + size, goto)], size
    except (struct.error, ValueError):
        return [v.Anything()], size


def _name(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("ascii")


def _verdict(code: int, after: int, goto: bool) -> v.Verdict:
    if code == _RETURN:
        return v.Verdict(v.RETURN)
    if code < 0:
        return v.Verdict(-code - 1)
    if code == after:  # it is a rule without a target
        return v.Verdict(v.CONTINUE)
    return v.Verdict(v.GOTO if goto else v.JUMP, str(code))


def _conditions(form: _Form, entry: bytes) -> Iterator[v.Expression]:
    """Yield the conditions of struct ipt_ip and ip6t_ip.

    They are addresses and names of devices with their masks, and a protocol.
    """
    flags, inverted = entry[form.flags], entry[form.flags + 1]
    size = form.size
    if flags & form.other:
        yield v.Perhaps()
    for number, (offset, bit) in enumerate(((form.source, _SOURCE), (form.source + size, _TARGET))):
        data, mask = (entry[at * size : (at + 1) * size] for at in (number, number + 2))
        yield from _compare(v.Load(1, "network header", offset, size), mask, data, inverted & bit)
    for number, (key, bit) in enumerate((("iifname", _VIA_IN), ("oifname", _VIA_OUT))):
        data, mask = (entry[4 * size + 16 * at : 4 * size + 16 * (at + 1)] for at in (number, number + 2))
        yield from _compare(v.Load(1, key), mask, data, inverted & bit)
    (protocol,) = struct.unpack_from("=H", entry, form.protocol)
    if protocol:
        yield from _compare(v.Load(1, "l4proto"), b"\xff", bytes([protocol]), inverted & _PROTOCOL)


def _compare(load: v.Load, mask: bytes, data: bytes, inverted: int) -> Iterator[v.Expression]:
    if any(mask):
        yield load
        yield v.Mask(1, 1, mask, bytes(len(mask)))
        wanted = bytes(one & other for one, other in zip(data, mask, strict=True))
        yield v.Compare(1, v.NOT_EQUAL if inverted else v.EQUAL, wanted)
    elif inverted:
        yield v.Perhaps()  # the negation of a condition that always holds
