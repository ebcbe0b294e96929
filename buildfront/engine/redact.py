"""Secrets taken out of what a step prints, before anybody sees it or keeps it."""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST = 4
"""Bytes of a secret, or of one of its lines, that is looked for; what is shorter would blacken half of the output."""

LONGEST = 16 << 10
"""Bytes of the longest word that is looked for; a secret that is longer is found by its lines."""

MASK = b"***"


def words(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """What to look for, the longest first: each secret without the line ends around it, and each of its lines."""
    found = set()
    for data in secrets:
        for word in (data.strip(b"\r\n"), *data.splitlines()):
            if len(word.strip()) >= SHORTEST and len(word) <= LONGEST:
                found.add(word)
    return tuple(sorted(found, key=lambda word: (-len(word), word)))


class Redactor:
    """One stream. What may be the beginning of a secret is held back until more comes, or the end."""

    def __init__(self, wanted: tuple[bytes, ...]) -> None:
        self._wanted = wanted
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be shown by now."""
        data = self._held + data
        out = bytearray()
        at = 0
        while True:
            limit = self._unfinished(data, at)
            hits = [
                (place, -len(word)) for word in self._wanted if 0 <= (place := data.find(word, at)) < limit
            ]
            if not hits:
                break
            place, size = min(hits)
            out += data[at:place] + MASK
            at = place - size
        out += data[at:limit]
        self._held = data[limit:]
        return bytes(out)

    def _unfinished(self, data: bytes, start: int) -> int:
        """The first place from ``start`` on from which all the rest could be the beginning of a secret."""
        first = len(data)
        for word in self._wanted:
            at = data.find(word[:1], max(start, len(data) - len(word) + 1), first)
            while at >= 0:
                if word.startswith(data[at:]):
                    first = at
                    break
                at = data.find(word[:1], at + 1, first)
        return first

    def end(self) -> bytes:
        """What was held back."""
        held, self._held = self._held, b""
        for word in self._wanted:
            held = held.replace(word, MASK)
        return held
