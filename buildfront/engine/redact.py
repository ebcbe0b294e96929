"""Removes secrets from the output of steps, before it is shown or kept."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable

SHORTEST = 4
"""The fewest bytes of a secret, or of one of its lines, that is looked for. Shorter words would mask half of the
output."""

LONGEST = 16 << 10
"""The most bytes of a word that is looked for. A longer secret is found by its lines, a longer line by its pieces."""

MASK = b"***"


def words(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the words to look for, the longest first: each secret and each of its lines, without blanks around it."""
    found: set[bytes] = set()
    for data in secrets:
        whole = data.strip()
        lines = [line.strip() for line in data.splitlines()]
        pieces = (line[at : at + LONGEST] for line in lines for at in range(0, len(line), LONGEST))
        found.update((whole,) if len(whole) <= LONGEST else (), pieces)
    return tuple(
        sorted((word for word in found if len(word) >= SHORTEST), key=lambda word: (-len(word), word))
    )


class _Words:
    """The words that begin with the same bytes."""

    def __init__(self, words: list[bytes]) -> None:
        self._sorted = sorted(words)
        self._by_length: dict[int, set[bytes]] = {}
        for word in sorted(words, key=len, reverse=True):
            self._by_length.setdefault(len(word), set()).add(word)
        self.longest = max(self._by_length)

    def at(self, data: bytes, place: int) -> bytes | None:
        """Return the longest word that is complete in ``data`` at this place."""
        for length, words in self._by_length.items():
            if place + length <= len(data) and (word := data[place : place + length]) in words:
                return word
        return None

    def beginning_with(self, rest: bytes) -> bytes | None:
        """Return a longer word that begins with ``rest``."""
        found = bisect.bisect_right(self._sorted, rest)
        if found < len(self._sorted) and self._sorted[found].startswith(rest):
            return self._sorted[found]
        return None


class Redactor:
    """Removes secrets from one stream. Bytes that may begin a secret are held back until more bytes or the end come.

    Of words that begin at the same place the longest counts, of words that overlap the first: the result does not
    depend on how the stream was cut into chunks. A secret may have thousands of lines, so words are found by their
    first bytes, and then by their lengths.
    """

    def __init__(self, wanted: tuple[bytes, ...]) -> None:
        self._held = b""
        by_head: dict[bytes, list[bytes]] = {}
        for word in wanted:
            by_head.setdefault(word[:SHORTEST], []).append(word)
        self._by_head = {head: _Words(found) for head, found in by_head.items()}
        self._starts = {head[:size] for head in self._by_head for size in range(1, SHORTEST)}
        # A possible head: rough, and fast where there is none. As a look-ahead it finds places that overlap too.
        columns = (
            b"".join({re.escape(head[at : at + 1]) for head in self._by_head}) for at in range(SHORTEST)
        )
        self._likely = (
            re.compile(b"(?=%s)" % b"".join(b"[%s]" % column for column in columns)) if wanted else None
        )

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown by now."""
        return self._show(self._held + data, ended=False)

    def end(self) -> bytes:
        """Return what was held back."""
        return self._show(self._held, ended=True)

    def _show(self, data: bytes, *, ended: bool) -> bytes:
        out = bytearray()
        shown = 0
        hold = len(data)
        for match in self._likely.finditer(data) if self._likely is not None else ():
            place = match.start()
            if place < shown:
                continue  # inside the word that was found last
            word = self._word_at(data, place, ended)
            if word is None:
                continue
            if place + len(word) > len(data):
                hold = place
                break
            out += data[shown:place] + MASK
            shown = place + len(word)
        else:
            rest = range(max(shown, len(data) - SHORTEST + 1), len(data)) if not ended else ()
            hold = next((place for place in rest if data[place:] in self._starts), hold)
        self._held = data[hold:]
        return bytes(out + data[shown:hold])

    def _word_at(self, data: bytes, place: int, ended: bool) -> bytes | None:
        """Return the longest word at this place; before the end, also one that may still become complete."""
        words = self._by_head.get(data[place : place + SHORTEST])
        if words is None:
            return None
        there = len(data) - place
        coming = None if ended or there >= words.longest else words.beginning_with(data[place:])
        return coming or words.at(data, place)
