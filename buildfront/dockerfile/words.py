"""Words: quoting and variables, as the Dockerfile reference says under "Environment replacement".

Pure functions over strings; the caller gives the variables. The text comes from a stranger: runs of ordinary
characters are read at once, and variables may add only so much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import BuildError

LARGEST = 1 << 20
"""The most characters that variables may add to one text: forty lines ``ENV A=$A$A`` would make a terabyte."""

_DEEPEST = 100
"""How deep variables may stand in the defaults of variables."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IN_BRACES = re.compile(r"[A-Za-z0-9_]+")
_DIGITS = re.compile(r"[0-9]+")
_SPACE = re.compile(r"\s+")


class _Runs:
    """Expressions for runs of characters without a special meaning, for one escape character."""

    def __init__(self, escape: str) -> None:
        mark = re.escape(escape)
        self.outside = re.compile(rf"[^$'\"{mark}]+")
        self.in_braces = re.compile(rf"[^$'\"{mark}}}]+")
        self.in_quotes = re.compile(rf"[^$\"{mark}]+")
        self.in_word = re.compile(rf"[^\s'\"{mark}]+")
        self.until_quote = re.compile(rf"[^\"{mark}]+")


_RUNS = {escape: _Runs(escape) for escape in "\\`"}


class _Reader:
    def __init__(
        self, text: str, escape: str, variables: Mapping[str, str] | None, used: set[str] | None
    ) -> None:
        self.text = text
        self.at = 0
        self.escape = escape
        self.runs = _RUNS[escape]
        self.variables = variables
        self.used = used
        self.added = 0
        self.depth = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def take(self, run: re.Pattern[str]) -> str:
        """Return the characters that match ``run`` here, perhaps none."""
        found = run.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def variable(self) -> str:
        """Return the value of the variable after ``$``, or the text itself where it is not a variable."""
        char = self.peek()
        if char == "{":
            self.at += 1
            self.depth += 1
            if self.depth > _DEEPEST:
                raise BuildError(
                    f"more than {_DEEPEST} variables in each other's defaults",
                    hint="set a variable of its own in between",
                )
            value = self._braced()
            self.depth -= 1
            return value
        name = self.take(_NAME)
        if name:
            return self._grown(self._value(name) or "")
        if self.take(_DIGITS):
            return ""
        if char and char in "@*#?-!$":
            self.at += 1  # the shell's special parameters: none here
            return ""
        return "$"

    def _grown(self, value: str) -> str:
        self.added += len(value)
        if self.added > LARGEST:
            raise BuildError(
                f"the variables in one value come to more than {LARGEST} characters",
                hint="does a variable hold itself, as in ENV A=$A$A?",
            )
        return value

    def _value(self, name: str) -> str | None:
        if self.used is not None:
            self.used.add(name)
        return None if self.variables is None else self.variables.get(name)

    def _braced(self) -> str:
        name = self.take(_IN_BRACES)
        if not name:
            raise BuildError(
                f"bad substitution in {self.text!r}", hint="a variable's name is missing after ${"
            )
        value = self._value(name)
        char = self.next()
        if char == "}":
            return self._grown(value or "")
        colon = char == ":"
        operator = self.next() if colon else char
        if operator in ("-", "+", "?") and operator:
            word = self._until_brace()
            unset = value is None or (colon and value == "")
            if operator == "-":
                return word if unset else self._grown(value or "")
            if operator == "+":
                return "" if unset else word
            if unset:
                raise BuildError(
                    f"{name}: {word or 'the variable is not set'}", hint="give it with --build-arg or ENV"
                )
            return self._grown(value or "")
        if operator == "":
            raise BuildError(f"bad substitution in {self.text!r}", hint="the closing } is missing")
        raise BuildError(
            f"the modifier {char + (operator if colon else '')!r} in {self.text!r} is not supported yet",
            hint="known are :- - :+ + :? ?",
        )

    def _until_brace(self) -> str:
        out = []
        while True:
            out.append(self.take(self.runs.in_braces))
            char = self.peek()
            if char == "":
                raise BuildError(f"bad substitution in {self.text!r}", hint="the closing } is missing")
            if char == "}":
                self.at += 1
                return "".join(out)
            out.append(self.piece())

    def piece(self) -> str:
        """Return one quotation, escape or variable, replaced, or one ordinary character."""
        char = self.next()
        if char == "'":
            start, end = self.at, self.text.find("'", self.at)
            if end < 0:
                raise BuildError(f"unexpected end in {self.text!r}", hint="a closing ' is missing")
            self.at = end + 1
            return self.text[start:end]
        if char == '"':
            out = []
            while True:
                out.append(self.take(self.runs.in_quotes))
                inner = self.next()
                if inner == "":
                    raise BuildError(f"unexpected end in {self.text!r}", hint='a closing " is missing')
                if inner == '"':
                    return "".join(out)
                if inner == "$":
                    out.append(self.variable())
                elif inner == self.escape and self.peek() in ('"', "$", self.escape):
                    out.append(self.next())
                else:
                    out.append(inner)
        if char == "$":
            return self.variable()
        if char == self.escape:
            return self.next()
        return char


def expand(text: str, variables: Mapping[str, str], escape: str = "\\", used: set[str] | None = None) -> str:
    """Return ``text`` with variables replaced and quotes removed; names that are looked up are added to ``used``.

    Raises BuildError for an open quote or brace, an unknown modifier, ``${name:?message}``, and for variables that
    add more than LARGEST characters.
    """
    reader = _Reader(text, escape, variables, used)
    out = []
    while reader.at < len(text):
        out.append(reader.take(reader.runs.outside))
        if reader.at < len(text):
            out.append(reader.piece())
    return "".join(out)


def split(text: str, escape: str = "\\") -> list[str]:
    """Return the blank-separated words of ``text``, with quotes and escapes as written."""
    runs = _RUNS[escape]
    words: list[str] = []
    at, start = 0, -1
    while at < len(text):
        if (space := _SPACE.match(text, at)) is not None:
            if start >= 0:
                words.append(text[start:at])
            at, start = space.end(), -1
            continue
        start = at if start < 0 else start
        if (run := runs.in_word.match(text, at)) is not None:
            at = run.end()
        elif text[at] in "'\"":
            at = after_quote(text, at, escape)
        else:
            at = min(at + 2, len(text))  # the escape character and what it escapes
    if start >= 0:
        words.append(text[start:])
    return words


def after_quote(text: str, at: int, escape: str) -> int:
    """Return the place after the quotation that begins at ``at``. Raises BuildError where it does not end."""
    quote, place = text[at], at + 1
    if quote == "'":
        place = text.find("'", place) + 1
        if place > 0:
            return place
    run = _RUNS[escape].until_quote
    while quote == '"' and place < len(text):
        found = run.match(text, place)
        place = found.end() if found is not None else place
        if text.startswith('"', place):
            return place + 1
        place += 2
    raise BuildError(f"a closing {quote} is missing in {text!r}")


def pairs(text: str, instruction: str, escape: str = "\\") -> list[tuple[str, str]]:
    """Return the pairs of ``a=1 b="2 3"``, or of the old form ``name rest of the line``.

    Values keep their quotes and variables. Raises BuildError.
    """
    words = split(text, escape)
    if not words:
        raise BuildError(f"{instruction} needs at least one NAME=VALUE")
    if "=" not in words[0]:
        if len(words) < 2:
            raise BuildError(f"{instruction} {words[0]!r}: the form is NAME=VALUE")
        name, rest = text.strip().split(None, 1)
        return [(name, rest)]
    out = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise BuildError(
                f"{instruction} {word!r}: the form is NAME=VALUE", hint="quote a value with blanks"
            )
        if not name:
            raise BuildError(f"{instruction} {word!r}: the name before = is empty")
        out.append((name, value))
    return out
