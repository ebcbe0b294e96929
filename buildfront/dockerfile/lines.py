"""Text to logical lines: continuations, comments and the directives at the top.

Words and variables are not looked at. dockerfile-parse says where instructions begin. What it skips silently (a line
with one word, the text after an escaped escape character) is found here, as is everything in a text that
is too long for it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import BuildError, SourceRange

_COMMENT = re.compile(r"\s*#")
_MOST = 50_000
"""The most instructions that one Dockerfile may have."""

_LONG = 10_000
"""The longest text, in lines, that dockerfile-parse is given: its time grows with their square."""


class Line(NamedTuple):
    """One instruction's text: its name in upper case, the rest with continuations joined, and its place."""

    name: str
    rest: str
    text: str
    source: SourceRange


class Lines(NamedTuple):
    """All instructions, and the values of the directives at the top."""

    lines: tuple[Line, ...]
    escape: str
    directives: dict[str, str]


def split(text: str, file: str) -> Lines:
    """Return the logical lines of a Dockerfile.

    Raises BuildError with the place of a bad directive or a null byte, and for more than LARGEST instructions.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    physical = text.split("\n")
    if (null := text.find("\0")) >= 0:
        line = text.count("\n", 0, null) + 1
        raise BuildError(
            "the Dockerfile has a null byte",
            where=SourceRange(file, line, line),
            hint="it is a text file in UTF-8: is another file meant?",
        )
    directives = _directives(physical, file)
    escape = directives.get("escape", "\\")
    out: list[Line] = []
    starts = _starts(text, physical)
    missed: list[int] = []
    reached = -1
    while True:
        start, told = (missed[-1], missed.pop()) if missed else next(starts, (-1, -1))
        if start < 0:
            break
        if start <= reached:  # a part of the instruction before; what follows it here may be none
            missed += range(told, reached, -1)
            continue
        if _passed_over(physical[start]):
            continue
        rest, reached = _join(physical, start, escape)
        # A line that dockerfile-parse took for a part of this instruction by mistake.
        missed += range(told, reached, -1)
        words = rest.split(None, 1)
        if not words:
            continue
        name, value = words[0], words[1] if len(words) > 1 else ""
        place = SourceRange(file, start + 1, reached + 1)
        if len(out) == _MOST:
            raise BuildError(f"the Dockerfile has more than {_MOST} instructions", where=place)
        out.append(Line(name.upper(), value.strip(), "\n".join(physical[start : reached + 1]), place))
    return Lines(tuple(out), escape, directives)


def _starts(text: str, physical: list[str]) -> Iterator[tuple[int, int]]:
    """Return the lines at which instructions may begin, and those at which they may end, in order."""
    if len(physical) > _LONG:
        return ((number, number) for number in range(len(physical)))
    from dockerfile_parse import DockerfileParser

    structure = DockerfileParser(fileobj=io.BytesIO(text.encode("utf-8", "replace"))).structure
    covered: set[int] = set()
    found: list[tuple[int, int]] = []
    for item in structure:
        covered.update(range(item["startline"], item["endline"] + 1))
        if item["instruction"] != "COMMENT":
            found.append((item["startline"], item["endline"]))
    found += [(number, number) for number in range(len(physical)) if number not in covered]
    return iter(sorted(found))


def _passed_over(line: str) -> bool:
    return not line or line.isspace() or _COMMENT.match(line) is not None


def _join(physical: list[str], start: int, escape: str) -> tuple[str, int]:
    """Return the instruction's text with continuations removed, and the number of its last line.

    Comment and empty lines inside are skipped. An escaped escape character continues nothing.
    """
    out: list[str] = []
    number = last = start
    while number < len(physical):
        line = physical[number]
        number += 1
        if number - 1 > start and _passed_over(line):
            continue
        last = number - 1
        body = line.rstrip(" \t")
        if not body.endswith(escape) or body.endswith(escape * 2):
            out.append(line)
            break
        out.append(body[:-1])
    return "".join(out), last


def _directives(physical: list[str], file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(physical):
        head, equals, value = line.partition("=")
        head, value = head.strip(), value.strip()
        name = head[1:].strip().lower()
        if not head.startswith("#") or not equals or name not in ("escape", "syntax", "check"):
            break
        place = SourceRange(file, number + 1, number + 1)
        if name in found:
            raise BuildError(f"the directive {name!r} stands twice", where=place, hint="keep one of them")
        if name == "escape" and value not in ("\\", "`"):
            raise BuildError(f"invalid escape character {value!r}", where=place, hint="it is \\ or `")
        found[name] = value
    return found
