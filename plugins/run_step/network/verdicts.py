"""An interpreter of nf_tables' expressions: the fate of a packet in a chain of another program's firewall.

Only some bits of the packet need to be known. Pure: the caller reads the rules and sets. It never guesses: a
condition that can't be decided both holds and does not, and an unknown expression may do anything. So an
outcome that it reports as the only one is certain.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DROP, ACCEPT = 0, 1  # NF_DROP, NF_ACCEPT
CONTINUE, BREAK, JUMP, GOTO, RETURN = -1, -2, -3, -4, -5  # NFT_CONTINUE … (linux/netfilter/nf_tables.h)
"""The codes of verdicts; others may do anything."""

EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL = range(6)  # NFT_CMP_EQ …
_REGISTERS, _WORDS, _WORD = 4, 8, 4  # NFT_REG_1 to _4 of 16 bytes are NFT_REG32_00 and on, which begin at 8
_REGISTER = 16

_NAME = 16  # IFNAMSIZ

_DEPTH = 64
"""The limit for nested chains: more than the 16 of nf_tables, because goto is not a jump."""

_RULES = 100_000
"""The limit for the number of rules, of all chains together."""


@dataclass(frozen=True)
class Bits:
    """Bytes of which only the bits that are set in ``known`` are known."""

    value: bytes
    known: bytes

    @classmethod
    def exactly(cls, value: bytes) -> Bits:
        """Return bytes that are known completely."""
        return cls(value, b"\xff" * len(value))

    @classmethod
    def unknown(cls, size: int) -> Bits:
        """Return bytes of which nothing is known."""
        return cls(bytes(size), bytes(size))

    @classmethod
    def of(cls, network: Network) -> Bits:
        """Return an address of the network, with unknown host bits."""
        return cls(network.network_address.packed, network.netmask.packed)

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, part: slice) -> Bits:
        return Bits(self.value[part], self.known[part])

    def __add__(self, other: Bits) -> Bits:
        return Bits(self.value + other.value, self.known + other.known)

    def masked(self, keep: bytes, flip: bytes) -> Bits:
        """Return ``self & keep ^ flip``; the bits that are not kept are known to be 0."""
        kept, size = int.from_bytes(keep), len(self)
        value = int.from_bytes(self.value) & kept ^ int.from_bytes(flip)
        known = int.from_bytes(self.known) | (1 << 8 * size) - 1 ^ kept
        return Bits(value.to_bytes(size), known.to_bytes(size))

    def compared(self, operation: int, other: bytes) -> bool | None:
        """Compare as memcmp(3) does; None if the known bits don't decide it."""
        if operation in (EQUAL, NOT_EQUAL):
            equal = self._equals(other)
            return equal if equal is None or operation == EQUAL else not equal
        least, most, bound = *self._limits(), int.from_bytes(other)
        if operation in (GREATER, LESS_EQUAL):
            bound += 1
        below = True if most < bound else False if least >= bound else None  # less than the bound
        return below if below is None or operation in (LESS, LESS_EQUAL) else not below

    def within(self, low: bytes, high: bytes) -> bool | None:
        """Whether the value lies between ``low`` and ``high``, both included; None if it is not known."""
        if low == high:
            return self._equals(low)
        return both(self.compared(GREATER_EQUAL, low), self.compared(LESS_EQUAL, high))

    def _equals(self, other: bytes) -> bool | None:
        known = int.from_bytes(self.known)
        if (int.from_bytes(self.value) ^ int.from_bytes(other)) & known:
            return False
        return True if known == (1 << 8 * len(other)) - 1 else None

    def _limits(self) -> tuple[int, int]:
        known = int.from_bytes(self.known)
        least = int.from_bytes(self.value) & known
        return least, least | (1 << 8 * len(self)) - 1 ^ known


def both(one: bool | None, other: bool | None) -> bool | None:
    """The conjunction of two values, each of which may be None for unknown."""
    if one is False or other is False:
        return False
    return True if one and other else None


@dataclass(frozen=True)
class Load:
    """Load ``size`` bytes of a field of the packet, from ``offset`` on, into a register; size 0 is the whole field."""

    register: int
    field: str
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Mask:
    """Set a register to another one's bytes, ``& keep ^ flip``."""

    source: int
    register: int
    keep: bytes
    flip: bytes


@dataclass(frozen=True)
class Compare:
    """Go on only if a register compares with ``data`` as ``operation`` says."""

    register: int
    operation: int
    data: bytes


@dataclass(frozen=True)
class Between:
    """Go on only if a register is between ``low`` and ``high``, or is not if ``inverted``."""

    register: int
    low: bytes
    high: bytes
    inverted: bool = False


@dataclass(frozen=True)
class Lookup:
    """Look up a register in a set, and go on only if it is there; with ``verdicts``, apply the verdict it maps to."""

    register: int
    set: str
    inverted: bool = False
    verdicts: bool = False


@dataclass(frozen=True)
class Verdict:
    """A verdict: a code, and the chain of a jump or goto."""

    code: int
    chain: str = ""


@dataclass(frozen=True)
class Perhaps:
    """A condition that can't be decided here; it may have written anything to the registers."""


@dataclass(frozen=True)
class Anything:
    """An unknown expression: anything can happen from here on."""


Expression = Load | Mask | Compare | Between | Lookup | Verdict | Perhaps | Anything
Rule = Iterable[Expression]


@dataclass(frozen=True)
class Element:
    """An element of a set: the least and the greatest value of each part of its key.

    Without parts it matches what no other element matches. ``sure`` is false if there are further conditions.
    """

    parts: tuple[tuple[bytes, bytes], ...]
    verdict: Verdict | None = None
    sure: bool = True

    def has(self, key: Bits) -> bool | None:
        """Whether the element matches the key; None if that is not known."""
        found: bool | None = True
        at = 0
        for low, high in self.parts:
            found = both(found, key[at : at + len(low)].within(low, high))
            at += len(low)
        return found if self.sure else both(found, None)


@dataclass(frozen=True)
class Set:
    """A set, or a map to verdicts. ``size`` is that of a key, in bytes."""

    size: int
    elements: tuple[Element, ...]


class Outcome(Enum):
    """The outcomes of a packet in a chain."""

    ACCEPT = "it is accepted by a rule"
    DROP = "it is dropped by a rule"
    END = "no rule of the chain decides: its policy does, or the chain that it was called by goes on"
    UNKNOWN = "anything else, or any of these"


_TCP = 6  # IPPROTO_TCP
_PROTOCOLS = {4: (2, 0x0800), 6: (10, 0x86DD)}
"""NFPROTO_IPV4, NFPROTO_IPV6; ETH_P_IP, ETH_P_IPV6."""

ESTABLISHED, NEW = 2, 8
"""The bits of NF_CT_STATE_BIT in ``ct state``."""

EXPECTED, SEEN_REPLY, DESTINATION_NAT = 1, 2, 32  # IPS_EXPECTED, IPS_SEEN_REPLY, IPS_DST_NAT


@dataclass(frozen=True)
class Packet:
    """The known fields of a packet, by name. Other fields are not known at all."""

    fields: Mapping[str, Bits]

    def load(self, asked: Load) -> Bits:
        """Return the part of the packet that ``asked`` names."""
        found = self.fields.get(asked.field)
        if found is None:
            return Bits.unknown(asked.size or _REGISTER)
        if not asked.size:
            return found
        part = found[asked.offset : asked.offset + asked.size]
        return part + Bits.unknown(asked.size - len(part))


Device = tuple[str, int]
"""The name and the index of a device."""


def connection(
    version: int, device: Device, uplink: Device | None, network: Network | None
) -> tuple[Packet, Packet]:
    """Return the first packet of a TCP connection, and the answer.

    The connection goes from ``network``, which is behind ``device``, out by ``uplink``. None for the uplink
    or the network means that it is not known. The connection is not redirected.
    """
    there = _packet(version, device, uplink, network, None, NEW)
    return there, _packet(version, uplink, device, None, network, ESTABLISHED)


def _packet(
    version: int,
    source: Device | None,
    target: Device | None,
    sender: Network | None,
    receiver: Network | None,
    state: int,
) -> Packet:
    family, protocol = _PROTOCOLS[version]
    size = 4 if version == 4 else 16
    start, transport = (12, 9) if version == 4 else (8, 6)
    header = Bits.unknown(transport) + Bits.exactly(bytes([_TCP])) + Bits.unknown(start - transport - 1)
    for end in (sender, receiver):
        header += Bits.unknown(size) if end is None else Bits.of(end)
    seen = 0 if state == NEW else SEEN_REPLY
    fields = {
        "nfproto": Bits.exactly(bytes([family])),
        "protocol": Bits.exactly(protocol.to_bytes(2)),
        "l4proto": Bits.exactly(bytes([_TCP])),
        "ct state": Bits.exactly(_native(state)),
        "ct direction": Bits.exactly(bytes([state != NEW])),
        "ct status": Bits(_native(seen), _native(EXPECTED | SEEN_REPLY | DESTINATION_NAT)),
        "network header": header,
    }
    for key, found in (("iif", source), ("oif", target)):
        if found is not None:
            name, index = found
            fields[key] = Bits.exactly(_native(index))
            fields[f"{key}name"] = Bits.exactly(name.encode().ljust(_NAME, b"\0"))
    return Packet(fields)


def _native(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


_ANY = Verdict(sys.maxsize)
"""A verdict that is not known."""

_ENDS = {ACCEPT: Outcome.ACCEPT, DROP: Outcome.DROP, RETURN: Outcome.END}


def judge(
    packet: Packet,
    chain: str,
    rules: Callable[[str], Iterable[Rule] | None],
    sets: Callable[[str], Set | None],
) -> frozenset[Outcome]:
    """Return the possible outcomes of the packet in the chain.

    ``rules`` and ``sets`` return the object of a name, or None if they can't. They are called only when
    needed.
    """
    return _Judge(packet, rules, sets).chain(chain, 0)


@dataclass
class _Judge:
    packet: Packet
    rules: Callable[[str], Iterable[Rule] | None]
    sets: Callable[[str], Set | None]
    left: int = _RULES
    done: dict[str, frozenset[Outcome]] = field(default_factory=dict)

    def chain(self, name: str, depth: int) -> frozenset[Outcome]:
        rules = self.rules(name) if depth < _DEPTH else None
        if rules is None:
            return frozenset({Outcome.UNKNOWN})
        if name not in self.done:
            self.done[name] = frozenset({Outcome.UNKNOWN})  # for a loop that comes back to this chain
            self.done[name] = self._walk(rules, depth)
        return self.done[name]

    def _walk(self, rules: Iterable[Rule], depth: int) -> frozenset[Outcome]:
        found: set[Outcome] = set()
        for rule in rules:
            self.left -= 1
            more, goes_on = self._rule(rule, depth)
            found |= more
            if Outcome.UNKNOWN in found or self.left < 0:
                return frozenset(found | {Outcome.UNKNOWN})
            if not goes_on:
                return frozenset(found)
        return frozenset(found | {Outcome.END})

    def _rule(self, rule: Rule, depth: int) -> tuple[frozenset[Outcome], bool]:
        """Return the outcomes of a rule, and whether the next rule may be reached.

        A rule ends with its first verdict.
        """
        registers = Bits.unknown(_REGISTERS * _REGISTER)
        sure = True
        for part in rule:
            answer: bool | None = True
            match part:
                case Load():
                    registers = _put(registers, part.register, self.packet.load(part))
                case Mask():
                    value = _get(registers, part.source, len(part.keep)).masked(part.keep, part.flip)
                    registers = _put(registers, part.register, value)
                case Compare():
                    answer = _get(registers, part.register, len(part.data)).compared(
                        part.operation, part.data
                    )
                case Between():
                    answer = _get(registers, part.register, len(part.low)).within(part.low, part.high)
                    answer = not answer if part.inverted and answer is not None else answer
                case Lookup(verdicts=False):
                    answer = self._has(registers, part)
                case Lookup():
                    verdicts, answer = self._mapped(registers, part)
                    done = [self._do(verdict, depth) for verdict in verdicts]
                    found = frozenset().union(*(more for more, _ in done))
                    return found, not (sure and answer) or any(goes_on for _, goes_on in done)
                case Verdict():
                    found, goes_on = self._do(part, depth)
                    return found, goes_on or not sure
                case Perhaps():
                    registers = Bits.unknown(len(registers))
                    answer = None
                case Anything():
                    return frozenset({Outcome.UNKNOWN}), False
            if answer is False:
                break
            sure = sure and answer is True
        return frozenset(), True

    def _do(self, verdict: Verdict, depth: int) -> tuple[frozenset[Outcome], bool]:
        """Return the outcomes of a verdict, and whether the next rule is reached."""
        if verdict.code in _ENDS:
            return frozenset({_ENDS[verdict.code]}), False
        if verdict.code in (CONTINUE, BREAK):
            return frozenset(), True
        if verdict.code in (JUMP, GOTO):
            found = self.chain(verdict.chain, depth + 1)
            if verdict.code == GOTO:
                return found, False
            return found - {Outcome.END}, Outcome.END in found
        return frozenset({Outcome.UNKNOWN}), False

    def _has(self, registers: Bits, part: Lookup) -> bool | None:
        wanted = self.sets(part.set)
        if wanted is None:
            return None
        key = _get(registers, part.register, wanted.size)
        found: bool | None = False
        for element in wanted.elements:
            one = element.has(key)
            if one:
                return not part.inverted
            found = None if one is None else found
        return part.inverted if found is False else None

    def _mapped(self, registers: Bits, part: Lookup) -> tuple[list[Verdict], bool | None]:
        """Return the verdicts that the lookup may give, and whether it gives one; None if that is not known."""
        wanted = self.sets(part.set)
        if wanted is None:
            return [_ANY], True
        key = _get(registers, part.register, wanted.size)
        found = []
        for element in sorted(wanted.elements, key=lambda element: not element.parts):
            one = element.has(key)
            if one is not False:
                found.append(element.verdict or _ANY)
            if one:
                return found, True
        return found, None if found else False


def _offset(register: int) -> int:
    return (register - _WORDS) * _WORD if register >= _WORDS else (register - 1) * _REGISTER


def _get(registers: Bits, register: int, size: int) -> Bits:
    at = _offset(register)
    found = registers[at : at + size]
    return found + Bits.unknown(size - len(found))


def _put(registers: Bits, register: int, value: Bits) -> Bits:
    """Write a value to a register; the rest of its last word becomes 0."""
    at = _offset(register)
    value += Bits.exactly(bytes(-len(value) % _WORD))
    return registers[:at] + value + registers[at + len(value) :]
