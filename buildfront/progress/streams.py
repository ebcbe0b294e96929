"""A step's output, which comes in chunks cut anywhere, as lines and as text. Memory for it has a limit."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator

LONGEST = 64 << 10
"""The most bytes of a line that are passed on as one piece."""


class Lines:
    """One stream as lines. A line that is longer than LONGEST is given in pieces; no character is cut in two."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._inside = False

    def feed(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """Return what is complete by now: whether it continues the line before, and the line without its end."""
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            yield from self._add(data[at:end])
            if self._held or not self._inside:
                yield self._inside, bytes(self._held)
            self._held.clear()
            self._inside = False
            at = end + 1
        yield from self._add(data[at:])

    def end(self) -> Iterator[tuple[bool, bytes]]:
        """Return the last line, if it has no end."""
        if self._held:
            yield self._inside, bytes(self._held)
        self._held.clear()

    def _add(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        self._held += data
        start = 0
        while len(self._held) - start > LONGEST:
            cut = start + LONGEST
            while cut > start + LONGEST - 3 and self._held[cut] & 0xC0 == 0x80:
                cut -= 1  # in the middle of a character
            yield self._inside, bytes(self._held[start:cut])
            self._inside = True
            start = cut
        del self._held[:start]


def decoder() -> codecs.IncrementalDecoder:
    """A stream decoded from UTF-8: a character that is cut between two chunks stays one character."""
    return codecs.getincrementaldecoder("utf-8")("replace")


class Tail:
    """The last lines of one step's streams, as a terminal shows them while the step runs."""

    WIDEST = 500

    def __init__(self, lines: int) -> None:
        self.lines: deque[str] = deque(maxlen=lines)
        self._open = False
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def feed(self, stream: str, data: bytes) -> None:
        """Add what was printed.

        Control characters are left out, other than the end of a line and the return to its beginning.
        """
        if stream not in self._decoders:
            self._decoders[stream] = decoder()
        *ended, last = self._decoders[stream].decode(data).replace("\r", "\n").split("\n")
        for number, line in enumerate([*ended, last]):
            part = line[: self.WIDEST]
            if not part.isprintable():
                part = "".join(char for char in part if char.isprintable())
            if number == 0 and self._open and self.lines:
                self.lines[-1] = (self.lines[-1] + part)[: self.WIDEST]
            elif part.strip():
                self.lines.append(part)
        # A line that is not complete goes on with what comes next.
        self._open = bool(last.strip()) or (not ended and self._open)
