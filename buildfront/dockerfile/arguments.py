"""The words of ENV, LABEL and ARG as written: quotes, escapes and variables stay."""

from __future__ import annotations

import re

from ..errors import BuildError
from .blanks import ASCII_RUN, BLANK_RUN, BLANKS


class _Runs:
    def __init__(self, escape: str) -> None:
        mark = re.escape(escape)
        self.word = re.compile(rf"[^{BLANKS}'\"{mark}]+")
        self.quoted = re.compile(rf"[^\"{mark}]+")


_RUNS = {escape: _Runs(escape) for escape in "\\`"}


def split(text: str, escape: str = "\\") -> list[str]:
    """Return the words of ``text``, as written. A quotation that does not end goes to the end of the text."""
    runs = _RUNS[escape]
    words: list[str] = []
    word: list[str] = []
    at = 0
    while at < len(text):
        if (space := BLANK_RUN.match(text, at)) is not None:
            if word:
                words.append("".join(word))
            at, word = space.end(), []
            continue
        if (run := runs.word.match(text, at)) is not None:
            end = run.end()
        elif text[at] == "'":
            end = text.find("'", at + 1) + 1 or len(text)
        elif text[at] == '"':
            end = _after_quotation(text, at + 1, escape)
        else:
            end = at + 2
        if end > len(text):  # an escape character at the end escapes nothing, and is dropped
            text = text[:-1]
        if at < len(text):
            word.append(text[at:end])
        at = end
    if word:
        words.append("".join(word))
    return words


def _after_quotation(text: str, at: int, escape: str) -> int:
    """Return the place after the quotation; it is beyond the text where an escape character ends the text."""
    run = _RUNS[escape].quoted
    while at < len(text):
        if (found := run.match(text, at)) is not None:
            at = found.end()
        if text.startswith('"', at):
            return at + 1
        if at < len(text):
            at += 2
    return at


def pairs(text: str, instruction: str, escape: str = "\\") -> tuple[list[tuple[str, str]], bool]:
    """Return the pairs of ``a=1 b="2 3"``, or of the old form ``name rest of the line``, and whether it is the old one.

    Values keep their quotes and variables. Raises BuildError.
    """
    words = split(text, escape)
    if not words:
        return [], False
    if "=" not in words[0]:
        name, *rest = ASCII_RUN.split(text, maxsplit=1)
        if not rest:
            raise BuildError(f"{instruction} {text!r}: the form is NAME=VALUE", about=text)
        return [(name, rest[0])], True
    out = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise BuildError(
                f"{instruction} {word!r}: the form is NAME=VALUE",
                hint="quote a value with blanks",
                about=word,
            )
        out.append((name, value))
    return out, False
