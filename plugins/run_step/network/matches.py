"""Extensions of iptables (linux/netfilter/xt_…) in the form of :mod:`.verdicts`.

They are the matches that can be decided, and the effects of targets.
"""

from __future__ import annotations

import struct
import sys

from . import verdicts as v

_REGISTER = 1

_STATE = 1  # XT_CONNTRACK_STATE
_STATES = 0xF
"""The bits of XT_CONNTRACK_STATE_… that are the same in ``ct state``: invalid, established, related and new."""

_SOURCE_NAT = 1 << 6  # XT_CONNTRACK_STATE_SNAT

_FLAGS = 146
"""The offset of the flags in struct xt_conntrack_mtinfo2 and 3: what is compared, what is inverted, the states."""

_GO_ON = frozenset(
    "AUDIT CHECKSUM CLASSIFY CONNMARK CONNSECMARK CT DSCP HL HMARK IDLETIMER LED LOG MARK NFLOG NOTRACK RATEEST"
    " SECMARK SET TCPMSS TCPOPTSTRIP TEE TOS TRACE TTL ULOG".split()
)


def match(name: str, revision: int, info: bytes) -> tuple[v.Expression, ...]:
    """Return the conditions of a match; Perhaps for one that is not known."""
    if name == "comment":
        return ()
    if name == "state":
        (states,) = struct.unpack_from("=I", info)
        return _state(states, inverted=False)
    if name == "conntrack" and revision in (2, 3):
        looked, inverted, states = struct.unpack_from("=3H", info, _FLAGS)
        if looked == _STATE:
            return _state(states, inverted=bool(inverted & _STATE))
    return (v.Perhaps(),)


def _state(states: int, *, inverted: bool) -> tuple[v.Expression, ...]:
    """Return the comparison with ``ct state``.

    The packets that are looked at have no other states than these, except that of a translated address.
    """
    if states & _SOURCE_NAT:
        return (v.Perhaps(),)
    mask = (states & _STATES).to_bytes(4, sys.byteorder)
    return (
        v.Load(_REGISTER, "ct state"),
        v.Mask(_REGISTER, _REGISTER, mask, bytes(4)),
        v.Compare(_REGISTER, v.EQUAL if inverted else v.NOT_EQUAL, bytes(4)),
    )


def target(name: str) -> tuple[v.Expression, ...]:
    """Return the effect of a target; the standard target is a verdict and not handled here."""
    if name == "REJECT":
        return (v.Verdict(v.DROP),)
    return () if name in _GO_ON else (v.Anything(),)
