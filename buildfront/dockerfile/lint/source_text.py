"""Where the characters of an instruction stand in the text, so that a finding has a column and a mend its place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import SourceRange
from ..blanks import BLANKS
from ..instructions import Instruction
from ..scanner import continued
from .findings import Edit

_WORD = re.compile(r"[^\t\n\v\f\r ]+")


class Span(NamedTuple):
    """A word of a joined text: its place there, and its characters."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Joined:
    """An instruction as one line, without continuations and the comments among them.

    ``pieces`` are the places in ``text`` at which another line begins, each with its place in the source. ``last`` is
    the number of the last line before the here-documents, ``empty`` are the numbers of the empty lines.
    """

    text: str
    pieces: tuple[tuple[int, int], ...]
    last: int
    empty: tuple[int, ...] = ()

    def offset(self, at: int) -> int:
        """Return the place in the source of a place in ``text``."""
        found = bisect_right(self.pieces, (at, 1 << 62)) - 1
        start, place = self.pieces[found]
        return place + at - start

    def edit(self, start: int, end: int, text: str) -> Edit | None:
        """Return the edit that replaces these characters of ``text``; None where they stand in several lines."""
        if end <= start:
            place = self.offset(start)
            return Edit(place, place, text)
        first, last = self.offset(start), self.offset(end - 1) + 1
        return Edit(first, last, text) if last - first == end - start else None

    def words(self) -> Iterator[Span]:
        """Return the words between blanks, whatever quotes they have."""
        return (Span(found.start(), found.end(), found[0]) for found in _WORD.finditer(self.text))


class SourceText:
    """The text of a Dockerfile, by lines that are counted from 1."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self._starts = [0]
        at = text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = text.find("\n", at + 1)
        self.count = len(self._starts)

    def start(self, line: int) -> int:
        """Return the place at which a line begins; after the last line, the end of the text."""
        return self._starts[line - 1] if line <= self.count else len(self.text)

    def line(self, line: int) -> str:
        """Return a line without its end."""
        end = self.start(line + 1)
        return self.text[self.start(line) : end].rstrip("\r\n")

    def place(self, offset: int, end: int | None = None) -> SourceRange:
        """Return the lines from ``offset`` to ``end``, and the column."""
        first = bisect_right(self._starts, offset)
        last = first if end is None else max(first, bisect_right(self._starts, max(offset, end - 1)))
        return SourceRange(self.file, first, last, offset - self.start(first) + 1)

    def joined(self, item: Instruction) -> Joined:
        """Return an instruction's text as BuildKit joins it. Here-documents are not part of it."""
        pieces: list[tuple[int, int]] = []
        out: list[str] = []
        empty: list[int] = []
        length = 0
        number, goes_on = item.source.start, True
        while goes_on and number <= self.count and self.start(number) < len(self.text):
            line, place = self.line(number), self.start(number)
            if number == 1 and line.startswith("\ufeff"):
                line, place = line[1:], place + 1
            body = line.lstrip(BLANKS)
            if not out:
                place += len(line) - len(body)
                line = body
            if body and not (out and body.startswith("#")):
                part, goes_on = continued(line, item.escape)
                pieces.append((length, place))
                out.append(part)
                length += len(part)
            elif not body:
                empty.append(number)
            number += 1
        return Joined("".join(out), tuple(pieces or [(0, len(self.text))]), number - 1, tuple(empty))

    def lines(self, first: int, last: int) -> Joined:
        """Return the lines ``first`` to ``last`` as they are, with their ends."""
        start = self.start(first)
        return Joined(self.text[start : self.start(last + 1)], ((0, start),), last)
