"""Text to logical lines: continuations, comments and the directives at the top.

dockerfile-parse does the line structure. What it would drop in silence (a line with one word, a stray
continuation) is an error here. Words and variables are not looked at.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

from ..errors import BuildError, SourceRange

_DIRECTIVE = re.compile(r"^\s*#\s*([a-zA-Z]+)\s*=\s*(.*?)\s*$")
_COMMENT = re.compile(r"^\s*#")


class Line(NamedTuple):
    """One instruction's text: its name in upper case, the rest with continuations joined, and its place."""

    name: str
    rest: str
    text: str
    source: SourceRange


class Lines(NamedTuple):
    """All instructions, and what the directives at the top said."""

    lines: tuple[Line, ...]
    escape: str
    directives: dict[str, str]


def split(text: str, file: str) -> Lines:
    """Raises BuildError with the place of a line that is no instruction."""
    from dockerfile_parse import DockerfileParser

    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    directives = _directives(text, file)
    escape = directives.get("escape", "\\")
    physical = text.split("\n")
    structure = DockerfileParser(fileobj=io.BytesIO(text.encode("utf-8", "replace"))).structure
    covered: set[int] = set()
    starts: list[tuple[int, int]] = []
    for item in structure:
        covered.update(range(item["startline"], item["endline"] + 1))
        if item["instruction"] != "COMMENT":
            starts.append((item["startline"], item["endline"]))
    for number, line in enumerate(physical):
        if number not in covered and line.strip():
            starts.append((number, number))
    out = []
    reached = -1
    todo = sorted(starts, reverse=True)
    while todo:
        start, told = todo.pop()
        if start <= reached or not physical[start].strip() or _COMMENT.match(physical[start]):
            continue
        rest, end = _join(physical, start, escape)
        reached = end
        # dockerfile-parse takes an escaped escape character at the end for a continuation: what it joined
        # beyond the end stands for itself.
        todo += [(number, number) for number in range(told, end, -1)]
        words = rest.split(None, 1)
        if not words:
            continue
        name, value = words[0], words[1] if len(words) > 1 else ""
        place = SourceRange(file, start + 1, end + 1)
        out.append(Line(name.upper(), value.strip(), "\n".join(physical[start : end + 1]), place))
    return Lines(tuple(out), escape, directives)


def _join(physical: list[str], start: int, escape: str) -> tuple[str, int]:
    """The instruction's text with continuations taken out, and its last line; comment and empty lines inside
    are passed over.

    dockerfile-parse says where an instruction starts; joining is done here because it keeps comment lines
    apart from empty ones, which the reference treats alike. An escaped escape character continues nothing.
    """
    mark = re.escape(escape)
    pattern = re.compile(rf"(?<!{mark}){mark}[ \t]*$")
    out = ""
    number = last = start
    while number < len(physical):
        line = physical[number]
        if number > start and (_COMMENT.match(line) or not line.strip()):
            number += 1
            continue
        last = number
        match = pattern.search(line)
        if match is None:
            out += line
            break
        out += line[: match.start()]
        number += 1
    return out, last


def _directives(text: str, file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")):
        match = _DIRECTIVE.match(line)
        if match is None:
            break
        name, value = match[1].lower(), match[2]
        if name not in ("escape", "syntax", "check"):
            break
        place = SourceRange(file, number + 1, number + 1)
        if name in found:
            raise BuildError(f"the directive {name!r} stands twice", where=place, hint="keep one of them")
        if name == "escape" and value not in ("\\", "`"):
            raise BuildError(f"invalid escape character {value!r}", where=place, hint="it is \\ or `")
        found[name] = value
    return found
