"""The signals that STOPSIGNAL takes."""

from __future__ import annotations

import re

from ..errors import BuildError, nearest

_NAMES = frozenset(
    (
        "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM"
        " TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
    ).split()
    + [f"RTMIN+{number}" for number in range(1, 16)]
    + [f"RTMAX-{number}" for number in range(1, 15)]
)
"""Linux's names (signal(7))."""


def check(text: str) -> None:
    """Raise BuildError for what is neither a signal's name, with or without ``SIG``, nor a number but 0."""
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
        if int(text):
            return
    elif text.upper().removeprefix("SIG") in _NAMES:
        return
    near = nearest(
        "SIG" + text.upper().removeprefix("SIG"), tuple(f"SIG{name}" for name in sorted(_NAMES)), cutoff=0.7
    )
    raise BuildError(
        f"STOPSIGNAL {text} is not a signal", hint=near or "for instance SIGTERM, or its number 15"
    )
