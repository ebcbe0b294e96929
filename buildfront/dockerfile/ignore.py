"""``.dockerignore`` patterns (Dockerfile reference, "build context"): the paths of a context that are left out.

Pure: it answers for paths, and reads no directory.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from ..errors import BuildError
from .path_filter import Matched, PathFilter
from .pattern import Pattern

_KEPT = 32 << 20
"""Bytes that may be kept of the directories above the last path."""


class Rule(NamedTuple):
    """One line: the paths that it matches are left out, or (``exclude`` false) kept."""

    text: str
    exclude: bool
    line: int


class Ignore:
    """The rules of one file, in order, as :class:`.path_filter.PathFilter` reads them.

    Raises BuildError for a malformed pattern.
    """

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.has_exceptions = any(not item.exclude for item in rules)
        try:
            self._filter = PathFilter(("" if item.exclude else "!") + item.text for item in rules)
        except BuildError as error:
            raise _with_line(rules, error) from None
        self._above: list[_Seen] = []

    def excludes(self, path: str) -> bool:
        """Whether ``path``, relative to the context's root, is left out."""
        if not self.rules:
            return False
        # A walk asks for the files of a directory one after the other: what is known of the directories above stays.
        last = self._above  # other threads ask as well
        parts = path.split("/")
        known = 0
        for seen, part in zip(last, parts, strict=False):
            if seen.name != part:
                break
            known += 1
        above = last[:known]
        for part in parts[known:]:
            before = above[-1] if above else _Seen("", False, self._filter.top, 0)
            out, found = self._filter.match(before.found, part)
            size = before.size + len(found.path) + found.state.bit_length() // 8 + 8 * len(found.patterns)
            above.append(_Seen(part, out, found, size))
        self._above = above if above[-1].size <= _KEPT else []
        return above[-1].out


class _Seen(NamedTuple):
    """A path, whether it is left out, and what its children need to know.

    ``size`` is the number of bytes that this entry and those above it take.
    """

    name: str
    out: bool
    found: Matched
    size: int


def _with_line(rules: tuple[Rule, ...], whole: BuildError) -> BuildError:
    """Return the error of the first rule that is malformed, or of all of them together."""
    place, found = "", whole
    for item in rules:
        try:
            PathFilter((item.text,))
        except BuildError as error:
            place, found = f" line {item.line}", error
            break
    return BuildError(f".dockerignore{place}: {found.what.removeprefix('pattern: ')}", hint=found.hint)


def parse(text: str) -> Ignore:
    """Return the rules of an ignore file. Raises BuildError for a malformed pattern."""
    out = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n")):
        if line.startswith("#"):
            continue
        word = line.strip()
        if not word:
            continue
        exclude = not word.startswith("!")
        word = word.removeprefix("!").strip()
        if not word:
            raise BuildError(f".dockerignore line {number + 1}: a pattern is missing after !")
        cleaned = posixpath.normpath(word).lstrip("/")
        if cleaned in ("", "."):
            continue
        out.append(Rule(cleaned, exclude, number + 1))
    return Ignore(tuple(out))


def compile_pattern(pattern: str, *, directories: bool = True) -> Pattern:
    """Return the pattern of Go's filepath.Match.

    With ``directories``, ``**`` stands for any number of directories, as moby/patternmatcher reads it. Raises
    BuildError for a malformed one.
    """
    return Pattern(pattern, directories=directories)


def literal(path: str) -> str:
    """Return the pattern that matches only this path."""
    if not has_wildcard(path):
        return path
    return re.sub(r"[*?\[\\]", lambda found: "[\\\\]" if found[0] == "\\" else f"[{found[0]}]", path)


def as_written(pattern: str) -> str:
    """Return the path of a pattern that :func:`literal` made; any other pattern as it is."""
    path = re.sub(r"\[(?:([*?\[])|\\(\\))\]", r"\1\2", pattern)
    return path if literal(path) == pattern else pattern


def has_wildcard(text: str) -> bool:
    """Whether a COPY source is a pattern."""
    return any(char in text for char in "*?[")
