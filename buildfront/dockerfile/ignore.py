"""``.dockerignore`` patterns (Dockerfile reference, "build context"): which paths of a context are left out.

Pure: it is told paths and answers; it walks nothing.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from ..errors import BuildError


class Pattern(NamedTuple):
    regex: re.Pattern[str]
    exclude: bool
    text: str


class Ignore:
    """The patterns of one file, in order: the last one that matches a path or a parent of it decides."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns
        self.has_exceptions = any(not item.exclude for item in patterns)

    def excludes(self, path: str) -> bool:
        """Whether ``path``, relative to the context's root, is left out."""
        excluded = False
        if not self.patterns:
            return False
        parts = path.split("/")
        prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        for item in self.patterns:
            if item.exclude != excluded and any(item.regex.fullmatch(prefix) for prefix in prefixes):
                excluded = item.exclude
        return excluded


def parse(text: str) -> Ignore:
    """Raises BuildError for a malformed pattern."""
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
        out.append(Pattern(compile_pattern(cleaned), exclude, cleaned))
    return Ignore(tuple(out))


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Go's filepath.Match with ``**`` for any number of directories, as moby/patternmatcher reads it."""
    if pattern.startswith("**") and not any(char in pattern[2:] for char in "*?[\\/"):
        return re.compile(".*" + re.escape(pattern[2:]), re.DOTALL)  # a suffix of any path
    out = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            at += 2
            if pattern.startswith("/", at):
                at += 1
            out += "(?:.*/)?" if at < len(pattern) else ".*"
            continue
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            end = pattern.find("]", at + 2)
            if end < 0:
                raise BuildError(f"bad pattern {pattern!r}", hint="a closing ] is missing")
            inner = re.sub(r"([\\[&|~])", r"\\\1", pattern[at + 1 : end])
            out += "[" + ("^" + inner[1:] if inner.startswith("^") else inner) + "]"
            at = end
        elif char == "\\" and at + 1 < len(pattern):
            at += 1
            out += re.escape(pattern[at])
        else:
            out += re.escape(char)
        at += 1
    try:
        return re.compile(out, re.DOTALL)
    except re.error as error:
        raise BuildError(f"bad pattern {pattern!r}: {error}") from None


def literal(path: str) -> str:
    """The pattern that matches this path alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def as_written(pattern: str) -> str:
    """The path of a pattern that :func:`literal` made; any other pattern as it is."""
    path = re.sub(r"\[([*?\[])\]", r"\1", pattern)
    return path if literal(path) == pattern else pattern


def has_wildcard(text: str) -> bool:
    """Whether a COPY source is a pattern."""
    return any(char in text for char in "*?[")
