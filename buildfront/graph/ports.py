"""EXPOSE: ports, ranges of ports, and the form HOST:CONTAINER of which only the container's port counts."""

from __future__ import annotations

import re

from ..errors import BuildError

_FORM = "the form is PORT[-PORT][/tcp|/udp|/sctp]"
_NUMBER = re.compile(r"[+-]?0*([0-9]{1,5})", re.ASCII)
_LARGEST = 65535
PROTOCOLS = ("tcp", "udp", "sctp")


def ports_of(word: str) -> list[str]:
    """Return ``80/tcp`` for each port of ``[IP:][HOST:]PORT[-PORT][/PROTOCOL]``. Raises BuildError."""
    *before, container = word.rsplit(":", 2)
    ip, host = before if len(before) == 2 else ("", *before) if before else ("", "")
    container, _, protocol = container.partition("/")
    if protocol.lower() not in ("", *PROTOCOLS):
        raise BuildError(f"EXPOSE {word!r}: unknown protocol {protocol!r}", hint=_FORM)
    if ip and not _is_address(ip):
        raise BuildError(f"EXPOSE {word!r}: {ip!r} is not an IP address", hint=_FORM)
    first, last = _range(container, word)
    if host:
        low, high = _range(host, word)
        if first != last and last - first != high - low:
            raise BuildError(
                f"EXPOSE {word!r}: the ranges {host} and {container} have different lengths", hint=_FORM
            )
    return [f"{port}/{protocol.lower() or 'tcp'}" for port in range(first, last + 1)]


def _range(text: str, word: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    first = _number(start)
    last = first if not dash or start == end else _number(end)
    if first is None or last is None:
        raise BuildError(f"EXPOSE {word!r}: {text!r} is not a port from 0 to {_LARGEST}", hint=_FORM)
    if last < first:
        raise BuildError(f"EXPOSE {word!r}: the range {text} ends before it begins", hint=_FORM)
    return first, last


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    if match is None or int(match[1]) > _LARGEST or (text.startswith("-") and int(match[1])):
        return None
    return int(match[1])


def _is_address(text: str) -> bool:
    text = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        import ipaddress  # few ports have an address

        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
