"""Here-documents: ``<<EOF`` in RUN, COPY and ADD, and in ONBUILD of one of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import BuildError
from . import words
from .command_line import cut
from .json_form import json_array

_WORD = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_TABS = re.compile(r"^\t+", re.MULTILINE)
_KEYWORDS = ("run", "copy", "add")


class Delimiter(NamedTuple):
    """``<<EOF`` in a line: the line that ends the document, and how its content is read."""

    name: str
    expand: bool
    strip_tabs: bool


def delimiter(word: str) -> Delimiter | None:
    """Return the delimiter that a word is, or None. Raises BuildError for an open quotation or brace."""
    found = _WORD.fullmatch(word)
    if found is None or not found[3]:
        return None
    plain = words.process(found[3], {}, split=True, keep_unset=True).words
    if len(plain) != 1:
        return None
    raw = words.process(found[3], {}, split=True, keep_unset=True, raw_quotes=True).words
    if len(raw) != 1:
        raise BuildError(f"the delimiter <<{found[3]} of a here-document is not one word", about=word)
    return Delimiter(plain[0], _quotes(plain[0]) == _quotes(raw[0]), found[2] == "-")


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


def delimiters(line: str, escape: str) -> tuple[Delimiter, ...]:
    """Return the delimiters in an instruction's line, in order.

    The line may be of any instruction. As in BuildKit, a line with an open quotation has none, and the escape
    character is the backslash here, whatever the file says.
    """
    if "<<" not in line or not _may_have_documents(line, escape):
        return ()
    try:
        found = words.process(line, {}, split=True, keep_unset=True, raw_quotes=True, raw_escapes=True).words
    except BuildError:
        return ()
    return tuple(item for item in map(delimiter, found) if item is not None)


def _may_have_documents(line: str, escape: str) -> bool:
    command = cut(line, escape)
    if command.keyword.lower() == "onbuild":
        command = cut(command.rest, escape)
    if command.keyword.lower() not in _KEYWORDS:
        return False
    try:
        return json_array(command.rest) is None
    except BuildError:
        return False


def without_tabs(content: str) -> str:
    """Return the content of a ``<<-`` document: each line without the tabs at its start."""
    return _TABS.sub("", content)
