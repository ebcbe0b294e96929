"""A second opinion on where instructions begin: that of dockerfile-parse, which many programs read Dockerfiles with.

The structure that is built is our scanner's. Where dockerfile-parse sees another one, those programs see other
instructions than the builder, and each known kind of disagreement has its reason here.
"""

from __future__ import annotations

import io
from typing import NamedTuple

from ..errors import SourceRange
from .blanks import BLANKS
from .document import Document
from .scanner import Kind

_LONGEST = 10_000
"""The longest text, in lines, that is compared: the time of dockerfile-parse grows with their square."""


class Disagreement(NamedTuple):
    """An instruction that dockerfile-parse sees otherwise, and why."""

    source: SourceRange
    why: str


def disagreements(text: str, document: Document) -> tuple[Disagreement, ...]:
    """Return the instructions that dockerfile-parse does not see, or sees where there are none, in order.

    ``document`` is what our own reader made of ``text``. A very long text is not compared.
    """
    if len(document.kinds) > _LONGEST:
        return ()
    begins = _begins(text)
    ours = {item.source.start for item in document.instructions}
    out = []
    for item in document.instructions:
        first, last = item.source.start, item.source.end
        inside = [line for line in range(first + 1, last + 1) if line in begins]
        if inside and document.kinds[inside[0] - 1] is Kind.DOCUMENT:
            out.append(Disagreement(item.source, "it takes the lines of a here-document for instructions"))
        elif first not in begins or inside:
            out.append(Disagreement(item.source, _reason(text, document, first, last)))
    between = sorted(begins - ours - {line for item in document.instructions for line in _lines(item.source)})
    out += [
        Disagreement(SourceRange(document.file, line, line), "it takes this line for an instruction")
        for line in between
    ]
    return tuple(sorted(out))


def _lines(source: SourceRange) -> range:
    return range(source.start, source.end + 1)


def _begins(text: str) -> set[int]:
    from dockerfile_parse import DockerfileParser  # a build does not need it

    plain = text.removeprefix("\ufeff").encode("utf-8", "replace")
    structure = DockerfileParser(fileobj=io.BytesIO(plain)).structure
    return {item["startline"] + 1 for item in structure if item["instruction"] != "COMMENT"}


def _reason(text: str, document: Document, first: int, last: int) -> str:
    lines = text.split("\n")
    escape = document.escape
    if last == len(document.kinds) and lines[last - 1].rstrip(" \t\r").endswith(escape):
        return "it passes over an instruction whose last line ends with an escape character"
    if escape == "`" and any(item.name == "check" for item in document.directives):
        return "it does not know the escape directive below the check directive"
    if Kind.BLANK in document.kinds[first - 1 : last]:
        return "it takes a blank line for the end of an instruction"
    above = lines[first - 2].rstrip(" \t\r") if first > 1 else ""
    body = [lines[line - 1].rstrip(" \t\r") for line in range(first, last + 1)]
    if above.endswith(escape * 2) or any(line.endswith(escape * 2) for line in body):
        return "it takes an escaped escape character for a continuation"
    if lines[first - 1][:1] not in ("", " ", "\t") and lines[first - 1][0] in BLANKS:
        return "it does not know all blanks of Unicode"
    return "it cuts the lines here in another way"
