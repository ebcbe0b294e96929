"""Patterns that choose files of a directory: those of ``COPY --exclude``, and the source of ``COPY --parents``.

Pure, and as moby/patternmatcher reads them. A walk asks for a directory first, and then for what is in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import BuildError
from .pattern import Automaton

_SPECIAL = frozenset("*?[\\")


class Matched(NamedTuple):
    """A path, and what its children need to know: the state after it, and the patterns that it matches."""

    path: str
    state: int
    patterns: frozenset[int]


class PathFilter:
    """Patterns in their order: of those that match a path or a directory above it, the last one decides.

    One that begins with ``!`` takes back what others matched. It counts for a directory only where something before it
    matched there, just as in moby/patternmatcher. Raise BuildError for a malformed pattern; ``what`` is their name in
    the message.
    """

    def __init__(self, patterns: Iterable[str], what: str = "pattern") -> None:
        self._exceptions: list[bool] = []
        self._plain: dict[str, list[int]] = {}
        special: list[tuple[int, str]] = []
        for pattern in patterns:
            text = pattern.strip()
            if not text:
                continue
            text = _clean(text)
            exception = text.startswith("!")
            text = text.removeprefix("!")
            if not text:
                raise BuildError(f"bad {what} {pattern!r}: a pattern is missing after !")
            number = len(self._exceptions)
            self._exceptions.append(exception)
            if _SPECIAL.isdisjoint(text):
                self._plain.setdefault(text, []).append(number)
            else:
                special.append((number, text))
        try:
            self._wild = Automaton(special)
        except BuildError as error:
            raise BuildError(f"{what}: {error.what}", hint=error.hint) from None
        self.has_exceptions = any(self._exceptions)
        """Whether something below a directory that is matched may be not."""
        self.top = Matched("", self._wild.start, frozenset())
        """The directory itself, which is never asked for."""

    def match(self, above: Matched, name: str) -> tuple[bool, Matched]:
        """Return whether the entry ``name`` of a directory is matched, and what its own entries need to know."""
        path = f"{above.path}/{name}" if above.path else name
        state = self._wild.read(above.state, "/" + name if above.path else name)
        candidates = {*above.patterns, *self._plain.get(path, ()), *self._wild.every(state)}
        matched = False
        counted = []
        for number in sorted(candidates):
            exception = self._exceptions[number]
            if number in above.patterns or exception == matched:
                counted.append(number)
                matched = not exception
        return matched, Matched(path, state, frozenset(counted))

    def may_match_below(self, directory: Matched) -> bool:
        """Return whether something in a directory may be matched, or in a directory in it."""
        if directory.patterns or directory.state:
            return True
        return any(text.startswith(directory.path + "/") for text in self._plain)


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned
