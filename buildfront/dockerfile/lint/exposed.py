"""The rules about EXPOSE."""

from __future__ import annotations

from collections.abc import Mapping

from .. import words
from ..instructions import Words
from .check_settings import CheckSettings
from .collected import Report
from .findings import Fix
from .source_text import Joined, SourceText


def check_ports(
    item: Words, env: Mapping[str, str], source: SourceText, settings: CheckSettings, report: Report
) -> None:
    """Note protocols with capitals, and ports of the host."""
    joined = source.joined(item)
    for value in item.values:
        for port in words.expand_words(value, env, item.escape):
            *host, container = port.split(":")
            number, slash, protocol = container.partition("/")
            if protocol.lower() not in ("", "tcp", "udp", "sctp") or not number:
                continue
            wanted = f"{number}{slash}{protocol.lower()}"
            if protocol != protocol.lower():
                report.add(
                    "ExposeProtoCasing",
                    f"Defined protocol '{port}' in EXPOSE instruction should be lowercase",
                    item.source,
                    settings=settings,
                    fix=_fix(item, joined, port, port[: len(port) - len(container)] + wanted),
                )
            if any(host):
                report.add(
                    "ExposeInvalidFormat",
                    f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'",
                    item.source,
                    settings=settings,
                    fix=_fix(item, joined, port, wanted),
                )


def _fix(item: Words, joined: Joined, port: str, wanted: str) -> Fix | None:
    """Return the fix of one port, where it is written as it is meant, once.

    The history has the ports in the order of their texts, so that a fix that changes this order is not safe.
    """
    found = [word for word in joined.words() if word.text == port]
    edit = joined.edit(found[0].start, found[0].end, wanted) if len(found) == 1 else None
    if edit is None:
        return None
    one = [wanted if value == port else value for value in item.values]
    every = [_mended(value) for value in item.values]
    return Fix((edit,), safe=one == sorted(one) and every == sorted(every))


def _mended(value: str) -> str:
    number, slash, protocol = value.rpartition(":")[2].partition("/")
    return f"{number}{slash}{protocol.lower()}"
