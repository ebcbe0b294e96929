"""Patterns with ``*``, ``?``, ``[…]`` and ``**``, matched in one pass over the text, whatever the patterns are.

Patterns and paths come from strangers. All patterns of a file are one automaton whose states are the bits of an
integer, so that a character costs a few operations on that integer: nothing is tried twice, and ten thousand patterns
cost little more than one. Each bit says that the part of a pattern before it has matched the text so far.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from ..errors import BuildError

LARGEST = 1 << 19
"""The most characters that the patterns with wildcards of one file may have, each wildcard counted as one."""

_CLASSES = 1 << 15
"""The most characters that the different classes of one file may have."""

_MASKS = 32 << 20
"""The most bytes of masks that are kept."""

_ANY, _STAR, _DIRECTORIES, _ALL = "?", "*", "**/", "**"


class _Class:
    """``[a-z]`` or ``[^a-z]``."""

    def __init__(self, ranges: list[tuple[int, int]], negated: bool) -> None:
        self.negated = negated
        merged: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        self._lows = [low for low, _ in merged]
        self._highs = [high for _, high in merged]

    def has(self, char: int) -> bool:
        found = bisect.bisect_right(self._lows, char) - 1
        return (found >= 0 and char <= self._highs[found]) != self.negated


_Token = tuple[str, str]
"""``("c", char)``, ``("[", text of a class)``, or a wildcard with an empty text."""


def _bad(pattern: str, why: str) -> BuildError:
    if pattern.startswith("[") and pattern.endswith(","):
        why = "if a JSON array is meant, something in it is missing: a quote, a comma or the closing ]"
    return BuildError(f"bad pattern {pattern!r}", hint=why)


def _class(pattern: str, at: int) -> tuple[_Class, int]:
    """Return the class that begins at ``[``, and the place after its ``]``.

    Raises BuildError where Go's Match returns an error, and for a range whose ends are in the wrong order.
    """
    start = at
    at += 1
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[int, int]] = []

    def one() -> int:
        nonlocal at
        if pattern[at : at + 1] in ("-", "]"):
            raise _bad(pattern, f"a {pattern[at]} in [ ] stands for itself only after a \\")
        at += pattern.startswith("\\", at)
        if at >= len(pattern):
            raise _bad(pattern, "a closing ] is missing")
        at += 1
        return ord(pattern[at - 1])

    while not (ranges and pattern.startswith("]", at)):
        low = high = one()
        if pattern.startswith("-", at):
            at += 1
            high = one()
        if high < low:
            raise _bad(pattern, f"the range {chr(low)}-{chr(high)} in {pattern[start:at]}] is upside down")
        ranges.append((low, high))
    return _Class(ranges, negated), at + 1


def _tokens(pattern: str, directories: bool, classes: dict[str, _Class]) -> list[_Token]:
    """Return the parts of a pattern. Adjacent wildcards that mean the same as one become one."""
    out: list[_Token] = []

    def add(kind: str) -> None:
        if kind in (_STAR, _DIRECTORIES) and out and out[-1][0] == kind:
            return
        out.append((kind, ""))

    at = 0
    if directories and pattern.startswith("**") and not any(char in pattern[2:] for char in "*?[\\/"):
        # A suffix of any path, as moby/patternmatcher has it.
        return [(_ALL, ""), *(("c", char) for char in pattern[2:])]
    while at < len(pattern):
        char = pattern[at]
        if directories and pattern.startswith("**", at):
            at += 2
            at += pattern.startswith("/", at)
            add(_DIRECTORIES if at < len(pattern) else _ALL)
            continue
        if char == "*":
            add(_STAR)
        elif char == "?":
            add(_ANY)
        elif char == "[":
            found, end = _class(pattern, at)
            text = pattern[at:end]
            classes[text] = found
            out.append(("[", text))
            at = end
            continue
        elif char == "\\":
            at += 1
            if at == len(pattern):
                raise _bad(pattern, "a \\ at its end escapes nothing")
            out.append(("c", pattern[at]))
        else:
            out.append(("c", char))
        at += 1
    return out


class Automaton:
    """Patterns, each with its number; the highest number of those that match counts.

    ``directories``: ``**`` stands for any number of directories, as moby/patternmatcher reads it; without it the
    patterns are those of Go's filepath.Match.
    """

    def __init__(self, patterns: Iterable[tuple[int, str]], *, directories: bool = True) -> None:
        classes: dict[str, _Class] = {}
        literals: dict[str, list[int]] = {}
        members: dict[str, list[int]] = {}
        anything: list[int] = []
        starts: list[int] = []
        loops: list[int] = []  # on everything but /
        all_loops: list[int] = []
        optional: list[int] = []
        self._ends: list[int] = []
        self._numbers: list[int] = []
        self.shortest = 0
        """The fewest characters that a text must have to match the last pattern."""
        state = in_classes = 0
        for number, pattern in patterns:
            if state + len(pattern) > LARGEST or in_classes > _CLASSES:
                raise BuildError(
                    "the patterns with wildcards are too many or too long",
                    hint=f"they may have {LARGEST} characters together, and {_CLASSES} in different [ ]",
                )
            starts.append(state)
            self.shortest = 0
            for kind, text in _tokens(pattern, directories, classes):
                if kind == _STAR:
                    loops.append(state)
                elif kind == _ALL:
                    all_loops.append(state)
                elif kind == _DIRECTORIES:  # nothing, or anything that ends with a slash
                    optional.append(state)
                    all_loops.append(state + 1)
                    literals.setdefault("/", []).append(state + 1)
                    state += 2
                else:
                    if kind == "c":
                        literals.setdefault(text, []).append(state)
                    elif kind == "[":
                        in_classes += len(text) if text not in members else 0
                        members.setdefault(text, []).append(state)
                    else:
                        anything.append(state)
                    state += 1
                    self.shortest += 1
            self._ends.append(state)
            self._numbers.append(number)
            state += 1
        self._size = state // 8 + 1
        self._literals = literals
        self._members = [(classes[text], states) for text, states in members.items()]
        self._anything = self._set(anything)
        self._accepting = self._mask(self._ends)
        self._optional = self._mask(optional)
        self._all_loops = self._mask(all_loops)
        self._loops = self._mask(loops) | self._all_loops
        self._masks: dict[str, int] = {}
        self.start = self._closed(self._mask(starts))
        """The state before the first character."""

    def _set(self, states: Iterable[int], beginning: bytes | bytearray = b"") -> bytearray:
        bits = bytearray(beginning or self._size)
        for state in states:
            bits[state >> 3] |= 1 << (state & 7)
        return bits

    def _mask(self, states: Iterable[int]) -> int:
        return int.from_bytes(self._set(states), "little")

    def _closed(self, state: int) -> int:
        passed = state & self._optional
        return state | passed << 1 | passed << 2 if passed else state

    def _mask_of(self, char: str) -> int:
        """Return the mask of the states from which this character leads on."""
        states = list(self._literals.get(char, ()))
        for members, of_class in self._members:
            if members.has(ord(char)):
                states += of_class
        mask = int.from_bytes(self._set(states, self._anything if char != "/" else b""), "little")
        if len(self._masks) * self._size > _MASKS:
            self._masks.clear()
        self._masks[char] = mask
        return mask

    def read(self, state: int, text: str) -> int:
        """Return the state after ``text`` is read in ``state``; 0 where nothing can match any more."""
        masks, loops, optional = self._masks, self._loops, self._optional
        for char in text:
            if not state:
                return 0
            mask = masks.get(char)
            if mask is None:
                mask = self._mask_of(char)
            state = (state & mask) << 1 | (state & (loops if char != "/" else self._all_loops))
            if optional:
                state = self._closed(state)
        return state

    def matched(self, state: int) -> int:
        """Return the highest number of the patterns that match the whole text; -1 for none."""
        there = state & self._accepting
        if not there:
            return -1
        return self._numbers[bisect.bisect_left(self._ends, there.bit_length() - 1)]

    def every(self, state: int) -> list[int]:
        """Return the numbers of all patterns that match the whole text."""
        there = state & self._accepting
        out = []
        while there:
            last = there.bit_length() - 1
            out.append(self._numbers[bisect.bisect_left(self._ends, last)])
            there ^= 1 << last
        return out


class Pattern:
    """One pattern."""

    def __init__(self, text: str, *, directories: bool = True) -> None:
        self._automaton = Automaton([(0, text)], directories=directories)

    def fullmatch(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        automaton = self._automaton
        if len(text) < automaton.shortest:
            return False
        return automaton.matched(automaton.read(automaton.start, text)) == 0
