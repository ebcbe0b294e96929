"""An instruction's line cut into its keyword, its flags and the rest."""

from __future__ import annotations

import re
from typing import NamedTuple

from .blanks import ASCII_RUN, BLANK_RUN, BLANKS


class CommandLine(NamedTuple):
    """One instruction: the keyword as written, the words that begin with ``--``, and the rest without outer blanks."""

    keyword: str
    flags: tuple[str, ...]
    rest: str


def cut(line: str, escape: str) -> CommandLine:
    """Return the parts of a line whose continuations are joined."""
    keyword, *more = ASCII_RUN.split(line.strip(BLANKS), maxsplit=1)
    if not more:
        return CommandLine(keyword, (), "")
    flags, at = _flags(more[0], escape)
    return CommandLine(keyword, tuple(flags), more[0][at:].strip(BLANKS))


_ORDINARY = {escape: re.compile(rf"[^{BLANKS}'\"{re.escape(escape)}]+") for escape in "\\`"}
_QUOTED = {
    (quote, escape): re.compile(rf"[^{quote}{re.escape(escape)}]+") for escape in "\\`" for quote in "'\""
}


def _flags(text: str, escape: str) -> tuple[list[str], int]:
    """Return the leading flags, without quotes and escapes, and the place of what follows them.

    A quotation that does not end goes to the end of the text, as in BuildKit.
    """
    found: list[str] = []
    at = 0
    while True:
        if (space := BLANK_RUN.match(text, at)) is not None:
            at = space.end()
        if not text.startswith("--", at):
            return found, at
        word, at = _flag(text, at, escape)
        if word == "--":
            return found, at
        found.append(word)


def _flag(text: str, at: int, escape: str) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text):
        run = (_QUOTED[quote, escape] if quote else _ORDINARY[escape]).match(text, at)
        if run is not None:
            word.append(run[0])
            at = run.end()
            continue
        char = text[at]
        if char == escape:
            word.append(text[at + 1 : at + 2])
            at += 2
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            break  # a blank
        at += 1
    return "".join(word), min(at, len(text))
