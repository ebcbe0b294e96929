"""Resource limits of the process (rows S19, X20): ``name=soft[:hard]``; a later one replaces one of the same name."""

from __future__ import annotations

from ..errors import HostError, RequestError
from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft

NAMES = (
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
).split()
"""The limits of getrlimit(2), in lower case, without ``RLIMIT_``."""

UNLIMITED = (1 << 64) - 1


def parse(text: str) -> tuple[str, int, int]:
    """Parse ``nofile=1024:2048`` into name, soft and hard; -1 and ``unlimited`` mean no limit.

    Raises RequestError, which quotes ``text`` and shows the format.
    """
    form = "the form is NAME=SOFT[:HARD], as in nofile=1024:2048"
    name, equals, values = text.partition("=")
    name = name.strip().lower()
    if not equals or not values:
        raise RequestError(f"ulimit {text!r}: {form}")
    if name not in NAMES:
        raise RequestError(f"ulimit {text!r}: unknown limit {name!r}; known are {', '.join(NAMES)}")
    soft_text, colon, hard_text = values.partition(":")
    try:
        soft = _number(soft_text)
        hard = _number(hard_text) if colon else soft
    except ValueError:
        raise RequestError(f"ulimit {text!r}: {form}") from None
    if soft > hard:
        raise RequestError(f"ulimit {text!r}: the soft limit is above the hard one")
    return name, soft, hard


def _number(text: str) -> int:
    if text in ("-1", "unlimited"):
        return UNLIMITED
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > UNLIMITED:
        raise ValueError(text)
    return int(text)


def _spec(number: int) -> int:
    """Return one of the builder's limits as a spec writes it."""
    return UNLIMITED if number == -1 else number


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the limits.

    A limit above the builder's hard one needs CAP_SYS_RESOURCE. If the request has none for open files, the
    spec states the builder's own limits (row X22), because runtimes raise theirs and some pass that on to the
    step.
    """
    chosen: dict[str, tuple[int, int]] = {}
    # In a user namespace the process has the capability, but the kernel wants it outside (getrlimit(2)).
    may_raise = host.is_machine_root and "SYS_RESOURCE" in host.capabilities
    ours = {item.name: item.hard for item in host.rlimits}

    def too_high(name: str, hard: int) -> int | None:
        """Return our own hard limit if it is below ``hard`` and can't be raised."""
        limit = ours.get(f"RLIMIT_{name.upper()}", -1)
        return limit if limit != -1 and hard > limit and not may_raise else None

    for text in request.default_ulimits:
        name, soft, hard = parse(text)
        limit = too_high(name, hard)
        if limit is not None:
            draft.warnings.append(f"the default limit {text} is lowered to the builder's own, {limit}")
            soft, hard = min(soft, limit), limit
        chosen[name] = (soft, hard)
    for text in request.ulimits:
        name, soft, hard = parse(text)
        chosen[name] = (soft, hard)
        limit = too_high(name, hard)
        if limit is not None:
            raise HostError(
                f"ulimit {name}={hard}: the builder's own hard limit is {limit}, and raising it needs CAP_SYS_RESOURCE"
            )
    for item in host.rlimits:
        if item.name == "RLIMIT_NOFILE":
            chosen.setdefault("nofile", (_spec(item.soft), _spec(item.hard)))
    if chosen:
        draft.process["rlimits"] = [
            {"type": f"RLIMIT_{name.upper()}", "hard": hard, "soft": soft}
            for name, (soft, hard) in sorted(chosen.items())
        ]
