"""Text to logical lines, as BuildKit's parser cuts it: continuations, comments, directives, here-documents.

Each source line is taken exactly once, and its kind is noted at that moment. So no line can get lost, and none can
belong to two instructions. Words and variables are not looked at.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ..errors import BuildError, SourceRange
from .blanks import BLANKS
from .directives import Directive, DirectiveReader
from .heredocs import delimiters
from .instructions import Heredoc

_MOST = 50_000
"""The most instructions that one Dockerfile may have."""

LONGEST_LINE = 65_535
"""The most bytes that one source line may have, as in BuildKit."""


class Kind(enum.Enum):
    """The kind of a source line. Comments and blank lines within a continuation are of these kinds too."""

    INSTRUCTION = "instruction"
    COMMENT = "comment"
    DIRECTIVE = "directive"
    BLANK = "blank"
    DOCUMENT = "document"


class Logical(NamedTuple):
    """One instruction: its text with continuations joined, its place, the comments above it, its here-documents.

    ``last`` is the last line before the here-documents. ``gap`` says that a blank line stands within a continuation.
    """

    text: str
    source: SourceRange
    comments: tuple[str, ...]
    documents: tuple[Heredoc, ...]
    last: int
    gap: bool


class Scan(NamedTuple):
    """A whole Dockerfile. ``error`` is the mistake at which reading ended, or None."""

    lines: tuple[Logical, ...]
    kinds: tuple[Kind, ...]
    directives: tuple[Directive, ...]
    escape: str
    error: BuildError | None


def scan(text: str, file: str) -> Scan:
    """Return the logical lines of a Dockerfile, as far as it can be read."""
    scanner = _Scanner(text, file)
    error = None
    try:
        scanner.read()
    except BuildError as problem:
        error = problem
    reader = scanner.directives
    return Scan(tuple(scanner.lines), tuple(scanner.kinds), tuple(reader.found), reader.escape, error)


class _Scanner:
    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._physical = text.removeprefix("\ufeff").split("\n")
        if not self._physical[-1]:
            self._physical.pop()
        self.directives = DirectiveReader(file)
        self.lines: list[Logical] = []
        self.kinds: list[Kind] = []
        """The kinds of the lines that were taken: their number is the place of the scanner."""

    def _more(self) -> bool:
        return len(self.kinds) < len(self._physical)

    def _peek(self, start: int = 0) -> str:
        """Return the next line without its end. Raises BuildError, placed from ``start``, for one that is too long."""
        line = self._physical[len(self.kinds)]
        if len(line) > LONGEST_LINE // 4 and len(line.encode("utf-8", "replace")) > LONGEST_LINE:
            number = len(self.kinds) + 1
            raise BuildError(
                f"line {number} is longer than {LONGEST_LINE} bytes",
                where=SourceRange(
                    self._file, start or max(1, number - 1), number
                ),  # BuildKit: the line before
                hint="continue it on the next line with \\, or COPY a file",
            )
        return line

    def read(self) -> None:
        """Take all lines. Raises BuildError for what ends the reading."""
        comments: list[str] = []
        while self._more():
            line = self._peek()
            number = len(self.kinds) + 1
            body = line.rstrip("\r").lstrip(BLANKS)
            if body.startswith("#"):
                if not self.directives.done and self.directives.line(body, number):
                    self.kinds.append(Kind.DIRECTIVE)
                    continue
                self.kinds.append(Kind.COMMENT)
                comment = line[1:].strip(BLANKS)  # an indented one keeps its #, as in BuildKit
                if comment:
                    comments.append(comment)
                else:
                    comments = []
                continue
            self.directives.done = True
            if not body:
                self.kinds.append(Kind.BLANK)
                continue
            if len(self.lines) == _MOST:
                place = SourceRange(self._file, number, number)
                raise BuildError(f"the Dockerfile has more than {_MOST} instructions", where=place)
            self._instruction(body, number, tuple(comments))
            comments = []

    def _instruction(self, body: str, start: int, comments: tuple[str, ...]) -> None:
        """Take the lines of one instruction; ``body`` is the first."""
        self.kinds.append(Kind.INSTRUCTION)
        escape = self.directives.escape
        part, goes_on = continued(body, escape)
        parts = [part]
        gap = False
        while goes_on and self._more():
            body = self._peek(len(self.kinds) + 1).rstrip("\r")
            stripped = body.lstrip(BLANKS)
            if stripped.startswith("#"):
                self.kinds.append(Kind.COMMENT)
            elif not stripped:
                self.kinds.append(Kind.BLANK)
                gap = True
            else:
                self.kinds.append(Kind.INSTRUCTION)
                part, goes_on = continued(body, escape)
                parts.append(part)
        text = "".join(parts)
        last = len(self.kinds)
        documents = self._documents(text, start)
        source = SourceRange(self._file, start, len(self.kinds))
        self.lines.append(Logical(text, source, comments, documents, last, gap))

    def _documents(self, text: str, start: int) -> tuple[Heredoc, ...]:
        """Take the here-documents that the instruction names. Raises BuildError for one that does not end."""
        out = []
        for name, expand, strip_tabs in delimiters(text, self.directives.escape):
            content: list[str] = []
            while True:
                if not self._more():
                    raise BuildError(
                        f"the here-document <<{name} does not end",
                        where=SourceRange(self._file, start, len(self.kinds)),
                        hint=_without_end(name, content, len(self.kinds)),
                        about=_as_written(name, text),
                    )
                line = self._peek(start)
                self.kinds.append(Kind.DOCUMENT)
                end = line.rstrip("\r")
                if (end.lstrip("\t") if strip_tabs else end) == name:
                    break
                content.append(line + "\n")
            out.append(Heredoc(name, "".join(content), expand, strip_tabs))
        return tuple(out)


def _without_end(name: str, content: list[str], last: int) -> str:
    """Return what to do about a document that does not end; ``last`` is the number of its last line."""
    for number, line in enumerate(content, last - len(content) + 1):
        if line.strip(BLANKS) == name:
            return f"line {number} has blanks beside {name}; only <<- allows some, tabs before it"
    return f"a line with {name} and nothing else must follow"


def _as_written(name: str, text: str) -> str:
    forms = [f"<<{dash}{mark}{name}{mark}" for dash in ("", "-") for mark in ("", "'", '"')]
    return next((form for form in forms if form in text), "<<")


def continued(line: str, escape: str) -> tuple[str, bool]:
    """Return the line without the escape character at its end, and whether there was one.

    An escaped escape character continues nothing.
    """
    body = line.rstrip(" \t")
    if not body.endswith(escape) or body.endswith(escape * 2):
        return line, False
    return body[:-1], True
