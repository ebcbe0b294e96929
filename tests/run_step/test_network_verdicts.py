"""Row X79: what becomes of a packet in chains of rules, some of which nobody can decide."""

import ipaddress
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import row

from run_step.network import verdicts as v

NETWORK = ipaddress.ip_network("10.213.0.0/16")
THERE, BACK = v.connection(4, ("buildfront0", 7), ("eth0", 2), NETWORK)

ACCEPT, DROP, BACK_TO_CALLER = v.Verdict(v.ACCEPT), v.Verdict(v.DROP), v.Verdict(v.RETURN)
IS_OUT = (v.Load(1, "oifname"), v.Compare(1, v.EQUAL, b"eth0\0"))
IS_IN = (v.Load(1, "iifname"), v.Compare(1, v.EQUAL, b"eth0\0"))
FROM = v.Load(9, "network header", 12, 4)
A, D, E, U = v.Outcome.ACCEPT, v.Outcome.DROP, v.Outcome.END, v.Outcome.UNKNOWN


def judged(packet, *rules, sets=None, **chains):
    chains["base"] = rules
    return set(v.judge(packet, "base", chains.get, (sets or {}).get))


def jump(name):
    return v.Verdict(v.JUMP, name)


def between(low, high):
    return v.Element(((ipaddress.ip_address(low).packed, ipaddress.ip_address(high).packed),))


LOW, HIGH = between("10.213.0.0", "10.213.127.255"), between("10.213.128.0", "10.213.255.255")
OURS, OTHER = between("10.0.0.0", "10.255.255.255"), between("192.0.2.0", "192.0.2.255")


def named(name):
    return name.encode().ljust(16, b"\0")


TO = v.Set(
    16,
    (
        v.Element(((named("eth0"),) * 2,), ACCEPT),
        v.Element(((named("lo"),) * 2,), DROP),
        v.Element((), BACK_TO_CALLER),
    ),
)

CASES = {
    "no rule": ([], {E}),
    "the first rule that holds": ([(ACCEPT,), (DROP,)], {A}),
    "a rule that does not": ([(*IS_IN, DROP), (ACCEPT,)], {A}),
    "one that can't be decided": ([(v.Perhaps(), DROP), (ACCEPT,)], {A, D}),
    "one that can't, before one that does not hold": ([(v.Perhaps(), *IS_IN, DROP)], {E}),
    "one that is not understood": ([(v.Anything(),), (ACCEPT,)], {U}),
    "one that is not understood, and not come to": ([(*IS_IN, v.Anything()), (DROP,)], {D}),
    "a field that is not known": ([(v.Load(1, "mark"), v.Compare(1, v.EQUAL, bytes(4)), DROP)], {D, E}),
    "the beginning of a name": ([(v.Load(1, "iifname"), v.Compare(1, v.EQUAL, b"build"), DROP)], {D}),
    "the beginning of an address": ([(FROM, v.Compare(9, v.EQUAL, b"\x0a"), DROP)], {D}),
    "the whole of an address": ([(FROM, v.Compare(9, v.EQUAL, bytes([10, 213, 0, 9])), DROP)], {D, E}),
    "another network": ([(FROM, v.Compare(9, v.EQUAL, bytes([10, 214])), DROP)], {E}),
    "a mask": (
        [(FROM, v.Mask(9, 1, bytes([255, 0, 0, 0]), bytes(4)), v.Compare(1, v.EQUAL, b"\x0a\0\0\0"), DROP)],
        {D},
    ),
    "a state": (
        [(v.Load(1, "ct state"), v.Compare(1, v.EQUAL, v.NEW.to_bytes(4, sys.byteorder)), DROP)],
        {D},
    ),
    "an order": ([(FROM, v.Compare(9, v.GREATER, bytes([10, 213, 255, 255])), DROP)], {E}),
    "a range": ([(FROM, v.Between(9, bytes([10, 0, 0, 0]), bytes([11, 0, 0, 0])), DROP)], {D}),
    "not a range": ([(FROM, v.Between(9, bytes([10, 0, 0, 0]), bytes([11, 0, 0, 0]), True), DROP)], {E}),
    "a chain that returns": ([(jump("one"),), (DROP,)], {D}),
    "a chain that it can't be known to return": ([(jump("two"),), (DROP,)], {A, D}),
    "a chain that is gone to": ([(v.Verdict(v.GOTO, "one"),), (DROP,)], {E}),
    "a chain without an end": ([(jump("self"),), (DROP,)], {U}),
    "a chain that can't be read": ([(jump("nowhere"),), (DROP,)], {U}),
    "a chain that is called perhaps": ([(v.Perhaps(), jump("drops")), (ACCEPT,)], {A, D}),
    "a set": ([(FROM, v.Lookup(9, "ours"), DROP)], {D}),
    "not in a set": ([(FROM, v.Lookup(9, "other", inverted=True), DROP)], {D}),
    "in parts of a set": ([(FROM, v.Lookup(9, "halves"), DROP)], {D, E}),
    "a set that can't be read": ([(FROM, v.Lookup(9, "nowhere"), DROP)], {D, E}),
    "a map": ([(v.Load(1, "oifname"), v.Lookup(1, "to", verdicts=True)), (DROP,)], {A}),
    "the rest of a map": ([(v.Load(1, "iifname"), v.Lookup(1, "to", verdicts=True)), (DROP,)], {E}),
    "a map of what is not known": ([(v.Load(1, "mark"), v.Lookup(1, "to", verdicts=True))], {A, D, E}),
    "a map that can't be read": ([(v.Load(1, "mark"), v.Lookup(1, "nowhere", verdicts=True))], {U}),
    "another verdict": ([(v.Verdict(3),), (DROP,)], {U}),
}


@row("X79")
@pytest.mark.parametrize("name", CASES)
def test_what_becomes_of_a_packet(name):
    rules, outcomes = CASES[name]
    sets = {
        "ours": v.Set(4, (OTHER, OURS)),
        "other": v.Set(4, (OTHER,)),
        "halves": v.Set(4, (LOW, HIGH)),
        "to": TO,
    }
    chains = {
        "one": [(*IS_OUT, BACK_TO_CALLER), (ACCEPT,)],
        "two": [(v.Perhaps(), ACCEPT)],
        "self": [(jump("self"),)],
        "drops": [(DROP,)],
    }
    assert judged(THERE, *rules, sets=sets, **chains) == outcomes


@row("X79")
def test_the_answer_comes_the_other_way():
    known = (v.Load(1, "ct state"), v.Compare(1, v.EQUAL, v.ESTABLISHED.to_bytes(4, sys.byteorder)))
    to_us = (v.Load(1, "network header", 16, 2), v.Compare(1, v.EQUAL, bytes([10, 213])))
    assert judged(BACK, (*IS_IN, *known, *to_us, ACCEPT), (DROP,)) == {A}
    assert judged(THERE, (*known, ACCEPT), (DROP,)) == {D}


@row("X79")
def test_a_chain_of_very_many_calls_is_judged_once():
    """Each calls the next one twice."""
    chains = {f"c{one}": [(v.Perhaps(), jump(f"c{one + 1}"))] * 2 for one in range(40)}
    assert judged(THERE, (jump("c0"),), **chains, c40=[(DROP,)]) == {D, E}
    chains = {f"c{one}": [(jump(f"c{one + 1}"),)] for one in range(1000)}
    assert judged(THERE, (jump("c0"),), **chains, c1000=[(DROP,)]) == {U}


BYTE = st.binary(min_size=1, max_size=1)


@row("X79")
@given(BYTE, BYTE, st.integers(0, 5), BYTE, BYTE)
def test_what_is_said_of_bits_is_so_of_each_byte_that_it_may_be(value, known, operation, one, other):
    bits = v.Bits(value, known)
    each = [bytes([byte]) for byte in range(256) if not (byte ^ value[0]) & known[0]]
    compare = [
        lambda a, b: a == b,
        lambda a, b: a != b,
        lambda a, b: a < b,
        lambda a, b: a <= b,
        lambda a, b: a > b,
        lambda a, b: a >= b,
    ][operation]
    exact = {compare(byte, one) for byte in each}
    assert bits.compared(operation, one) is (None if len(exact) == 2 else exact.pop())
    said = bits.within(min(one, other), max(one, other))
    inside = {min(one, other) <= byte <= max(one, other) for byte in each}
    assert said is None or inside == {said}
    masked = bits.masked(one, other)
    for byte in each:
        assert masked.compared(v.EQUAL, bytes([byte[0] & one[0] ^ other[0]])) is not False


SMALL = st.integers(0, 3).map(lambda number: bytes([number, 0, 0, 0]))
VERDICT = st.one_of(
    st.sampled_from([v.ACCEPT, v.DROP, v.RETURN, v.CONTINUE]).map(v.Verdict),
    st.builds(v.Verdict, st.sampled_from([v.JUMP, v.GOTO]), st.sampled_from("abc")),
)
ELEMENT = st.builds(
    v.Element, st.tuples(st.tuples(SMALL, SMALL).map(lambda ends: tuple(sorted(ends)))), VERDICT
)
CONDITION = st.one_of(
    st.builds(v.Compare, st.integers(8, 9), st.integers(0, 5), SMALL),
    st.builds(v.Between, st.integers(8, 9), SMALL, SMALL, st.booleans()),
    st.builds(v.Mask, st.integers(8, 9), st.integers(8, 9), SMALL, SMALL),
    st.builds(v.Lookup, st.integers(8, 9), st.just("set"), st.booleans()),
)
RULE = st.builds(
    lambda loads, conditions, end: (*loads, *conditions, end),
    st.tuples(
        st.builds(v.Load, st.just(8), st.sampled_from("xy")),
        st.builds(v.Load, st.just(9), st.sampled_from("xy")),
    ),
    st.lists(CONDITION, max_size=3),
    st.one_of(VERDICT, st.builds(v.Lookup, st.integers(8, 9), st.just("set"), st.just(False), st.just(True))),
)
CHAIN = st.lists(RULE, max_size=4)


KNOWN = st.integers(0, 3).map(lambda bits: bytes([0xFC | bits, 0xFF, 0xFF, 0xFF]))


@row("X79")
@given(CHAIN, CHAIN, CHAIN, st.lists(ELEMENT, max_size=3), SMALL, SMALL, KNOWN, KNOWN)
def test_who_knows_less_of_a_packet_rules_nothing_out(a, b, c, elements, x, y, known_x, known_y):
    """Of a packet of which all is known there is one outcome, and it is among those of who knows but a part."""
    # A chain calls those after it alone, as the kernel sees to that nothing runs in circles.
    chains = {"a": after(a, "bc"), "b": after(b, "c"), "c": after(c, "")}
    exact = v.Set(4, tuple(only(element, {ACCEPT, DROP}) for element in elements))
    sets = {"set": exact}
    whole = v.Packet({"x": v.Bits.exactly(x), "y": v.Bits.exactly(y)})
    part = v.Packet({"x": v.Bits(x, known_x), "y": v.Bits(y, known_y)})
    (outcome,) = v.judge(whole, "a", chains.get, sets.get)
    assert outcome in v.judge(part, "a", chains.get, sets.get)


def only(element, verdicts):
    return element if element.verdict in verdicts else v.Element(element.parts, ACCEPT)


def after(rules, names):
    return [rule for rule in rules if not getattr(rule[-1], "chain", "") or rule[-1].chain in names]
