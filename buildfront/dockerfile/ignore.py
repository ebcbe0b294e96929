"""``.dockerignore`` patterns (Dockerfile reference, "build context"): the paths of a context that are left out.

Pure: it answers for paths, and reads no directory.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import BuildError
from .pattern import Automaton, Pattern

_KEPT = 32 << 20
"""Bytes that may be kept of the directories above the last path."""


class Rule(NamedTuple):
    """One line: the paths that it matches are left out, or (``exclude`` false) kept."""

    text: str
    exclude: bool
    line: int


class Ignore:
    """The rules of one file, in order: the last one that matches a path or a parent of it decides.

    Raises BuildError for a malformed pattern.
    """

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.has_exceptions = any(not item.exclude for item in rules)
        self._plain = {item.text: at for at, item in enumerate(rules) if not _special(item.text)}
        self._longest = max(map(len, self._plain), default=-1)
        self._wild = _automaton(rules)
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
            before = above[-1] if above else _Seen("", "", self._wild.start, -1, 0)
            state = self._wild.read(before.state, "/" + part if above else part)
            whole = before.path
            if len(whole) <= self._longest:  # a longer path can't be one of them
                whole = f"{whole}/{part}" if above else part
            rule = max(before.rule, self._plain.get(whole, -1), self._wild.matched(state))
            size = before.size + len(whole) + state.bit_length() // 8
            above.append(_Seen(part, whole, state, rule, size))
        self._above = above if above[-1].size <= _KEPT else []
        rule = above[-1].rule
        return rule >= 0 and self.rules[rule].exclude


class _Seen(NamedTuple):
    """A path and what its children need to know.

    The automaton's state after the path, the last rule that matches it or one of its parents, and the bytes that this
    entry and those above it take.
    """

    name: str
    path: str
    state: int
    rule: int
    size: int


def _automaton(rules: tuple[Rule, ...]) -> Automaton:
    line = 0

    def wild() -> Iterator[tuple[int, str]]:
        nonlocal line
        for at, item in enumerate(rules):
            if _special(item.text):
                line = item.line
                yield at, item.text

    try:
        return Automaton(wild())
    except BuildError as error:
        raise BuildError(f".dockerignore line {line}: {error.what}", hint=error.hint) from None


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


def _special(text: str) -> bool:
    return "\\" in text or has_wildcard(text)
