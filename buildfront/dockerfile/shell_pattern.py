"""Patterns of ``${name#pattern}``, ``${name%pattern}`` and ``${name/pattern/text}``: ``*`` and ``?``, no classes.

A pattern is cut at its stars into pieces of a fixed length, and each piece is searched once from where the one before
it ended. So no pattern takes more than a pass over the value, whatever its author had in mind.
"""

from __future__ import annotations

import re

from ..errors import BuildError

LONGEST = 1 << 16
"""The most characters of a value that a pattern is matched with."""

_MOST_COMPARED = 1 << 22
"""The most characters that one piece with a ``?`` is compared with."""

_MOST_STARTS = 1000
"""How many beginnings are tried for a pattern that holds a line feed."""

_NO_END = -1


class _Piece:
    """A part of a pattern between stars: characters, and ``?`` for any character but a line feed."""

    def __init__(self, chars: list[str | None]) -> None:
        self.length = len(chars)
        self.text = None if None in chars else "".join(char or "" for char in chars)
        self.has_newline = "\n" in chars
        self._chars = chars
        self._forwards: re.Pattern[str] | None = None
        self._backwards: re.Pattern[str] | None = None

    def _compared(self, value: str) -> None:
        if self.length * len(value) > _MOST_COMPARED:
            raise BuildError(
                "a pattern with ? is too long for the value that it is matched with",
                hint="change the value in a RUN step",
            )

    def find(self, value: str, start: int, end: int) -> int:
        """Return the first place from ``start`` at which the piece ends before ``end``; -1 for none."""
        if self.text is not None:
            return value.find(self.text, start, end)
        if end - start < self.length:
            return -1
        self._compared(value)
        if self._forwards is None:
            self._forwards = _compiled(self._chars)
        found = self._forwards.search(value, start, end)
        return -1 if found is None else found.start()

    def find_last(self, value: str, start: int, end: int) -> int:
        """Return the last place from ``start`` at which the piece ends before ``end``; -1 for none."""
        if self.text is not None:
            return value.rfind(self.text, start, end)
        if end - start < self.length:
            return -1
        self._compared(value)
        if self._backwards is None:
            self._backwards = _compiled(self._chars[::-1])
        found = self._backwards.search(value[start:end][::-1])
        return -1 if found is None else min(end, len(value)) - found.end()


def _compiled(chars: list[str | None]) -> re.Pattern[str]:
    return re.compile("".join("[^\n]" if char is None else re.escape(char) for char in chars))


class ShellPattern:
    """One pattern. Raises BuildError for an escape character in front of a character without a special meaning."""

    def __init__(self, pattern: str) -> None:
        pieces: list[list[str | None]] = [[]]
        at = 0
        pattern = pattern.removeprefix("\ufeff")
        while at < len(pattern):
            char = pattern[at]
            at += 1
            if char == "*":
                if pieces[-1] or len(pieces) == 1:
                    pieces.append([])
            elif char == "?":
                pieces[-1].append(None)
            elif char == "\\":
                following = pattern[at : at + 1]
                if following in ("}", "/"):
                    continue  # escaped for the sake of the braces around the pattern
                if following not in ("*", "?", "\\"):
                    raise BuildError(
                        f"the pattern {pattern!r} has a \\ before {following!r}",
                        hint="only * ? \\ / and } can be escaped there",
                    )
                pieces[-1].append(following)
                at += 1
            else:
                pieces[-1].append(char)
        self._pieces = [_Piece(piece) for piece in pieces]
        self._one_line = not any(piece.has_newline for piece in self._pieces)

    @property
    def text(self) -> str | None:
        """The text that the pattern stands for; None where it has wildcards."""
        return self._pieces[0].text if len(self._pieces) == 1 else None

    def prefix(self, value: str, *, longest: bool) -> int:
        """Return the length of the shortest or longest beginning that matches; -1 for none."""
        _bounded(value)
        first = self._pieces[0]
        if first.find(value, 0, first.length) != 0:
            return _NO_END
        return self._rest(value, first.length, longest)[0]

    def search(self, value: str, start: int) -> tuple[int, int] | None:
        """Return where the leftmost match from ``start`` begins and ends; it is as long as it can be."""
        _bounded(value)
        first = self._pieces[0]
        starts = 0
        while True:
            begins = first.find(value, start, len(value))
            if begins < 0:
                return None
            end, reach = self._rest(value, begins + first.length, longest=True)
            if end != _NO_END:
                return begins, end
            if reach >= len(value):
                return None
            # No other beginning in this line can help, unless the pattern goes over lines.
            start = reach + 1 if self._one_line else begins + 1
            starts += not self._one_line
            if starts > _MOST_STARTS:
                raise BuildError("a pattern that goes over lines has too many beginnings in its value")

    def _rest(self, value: str, at: int, longest: bool) -> tuple[int, int]:
        """Return where the pieces after the first one end, -1 for nowhere, and how far a star could reach."""
        reach = -1
        for number, piece in enumerate(self._pieces[1:], 2):
            if reach < at:
                reach = value.find("\n", at)
                reach = len(value) if reach < 0 else reach
            last = number == len(self._pieces)
            find = piece.find_last if last and longest else piece.find
            found = find(value, at, min(reach + piece.length, len(value)))
            if found < 0:
                return _NO_END, reach
            at = found + piece.length
        return at, reach


def _bounded(value: str) -> None:
    if len(value) > LONGEST:
        raise BuildError(
            f"a pattern is matched with a value of more than {LONGEST} characters",
            hint="does a variable hold itself, as in ENV A=$A$A?",
        )


def without_prefix(pattern: str, value: str, *, longest: bool) -> str:
    """Return ``value`` without the beginning that matches. Raises BuildError."""
    end = ShellPattern(pattern).prefix(value, longest=longest)
    return value if end == _NO_END else value[end:]


def without_suffix(pattern: str, value: str, *, longest: bool) -> str:
    """Return ``value`` without the end that matches. Raises BuildError."""
    return without_prefix(_reversed(pattern), value[::-1], longest=longest)[::-1]


def _reversed(pattern: str) -> str:
    """Return the pattern for text that is read backwards: an escape character stays before what it escapes."""
    out = []
    at = 0
    while at < len(pattern):
        size = 2 if pattern[at] == "\\" and at + 1 < len(pattern) else 1
        out.append(pattern[at : at + size])
        at += size
    return "".join(reversed(out))


def replaced(pattern: str, value: str, replacement: str, *, every: bool, most: int) -> str:
    """Return ``value`` with the first or every match replaced.

    As in BuildKit, ``$0`` in the replacement of every match is the match itself, and other names after ``$`` are empty.
    Raises BuildError, also for a result of more than ``most`` characters.
    """
    compiled = ShellPattern(pattern)
    if not every:
        found = compiled.search(value, 0)
        return value if found is None else value[: found[0]] + replacement + value[found[1] :]
    template = _template(replacement)
    size = sum(len(part) for part in template if part is not None)
    if compiled.text and template == [replacement]:
        if value.count(compiled.text) * size + len(value) > most:
            raise _too_long()
        _bounded(value)
        return value.replace(compiled.text, replacement)
    out: list[str] = []
    at = last = length = 0
    while at <= len(value):
        found = compiled.search(value, at)
        if found is None:
            break
        begins, end = found
        out.append(value[last:begins])
        if end > last or begins == 0:  # an empty match right after another one is none
            match = value[begins:end]
            out += [match if part is None else part for part in template]
            length += size + len(match) * template.count(None)
            if length > most:
                raise _too_long()
        last = end
        at = max(at + 1, end)
    out.append(value[last:])
    return "".join(out)


def _too_long() -> BuildError:
    return BuildError(
        "the replacements make a value too long", hint="does a variable hold itself, as in ENV A=$A$A?"
    )


_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")


def _template(replacement: str) -> list[str | None]:
    """Return the parts of a replacement; None stands for the match."""
    out: list[str | None] = []
    at = 0
    for found in _REFERENCE.finditer(replacement):
        name = found[1] or found[2]
        out.append(replacement[at : found.start()])
        out.append("$" if name is None else None if name == "0" else "")
        at = found.end()
    out.append(replacement[at:])
    kept = [part for part in out if part != ""]
    return ["".join(part or "" for part in kept)] if None not in kept else kept
