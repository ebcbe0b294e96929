"""Words: quoting and variables, as the Dockerfile reference says under "Environment replacement".

Pure functions over strings. Which variables exist is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import BuildError

_NAME_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_NAME = _NAME_START + "0123456789"


class _Reader:
    def __init__(
        self, text: str, escape: str, variables: Mapping[str, str] | None, used: set[str] | None
    ) -> None:
        self.text = text
        self.at = 0
        self.escape = escape
        self.variables = variables
        self.used = used

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def variable(self) -> str:
        """After ``$``: the value, or the text itself where this is no variable."""
        char = self.peek()
        if char == "{":
            self.at += 1
            return self._braced()
        if char and char in _NAME_START:
            return self._value(self._name()) or ""
        if char and char in "0123456789":
            while self.peek() and self.peek() in "0123456789":
                self.at += 1
            return ""
        if char and char in "@*#?-!$":
            self.at += 1  # the shell's special parameters: none here
            return ""
        return "$"

    def _name(self) -> str:
        start = self.at
        while self.peek() and self.peek() in _NAME:
            self.at += 1
        return self.text[start : self.at]

    def _value(self, name: str) -> str | None:
        if self.used is not None:
            self.used.add(name)
        return None if self.variables is None else self.variables.get(name)

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise BuildError(
                f"bad substitution in {self.text!r}", hint="a variable's name is missing after ${"
            )
        value = self._value(name)
        char = self.next()
        if char == "}":
            return value or ""
        colon = char == ":"
        operator = self.next() if colon else char
        if operator in ("-", "+", "?") and operator:
            word = self._until_brace()
            unset = value is None or (colon and value == "")
            if operator == "-":
                return word if unset else value or ""
            if operator == "+":
                return "" if unset else word
            if unset:
                raise BuildError(
                    f"{name}: {word or 'the variable is not set'}", hint="give it with --build-arg or ENV"
                )
            return value or ""
        if operator == "":
            raise BuildError(f"bad substitution in {self.text!r}", hint="the closing } is missing")
        raise BuildError(
            f"the modifier {char + (operator if colon else '')!r} in {self.text!r} is not supported yet",
            hint="known are :- - :+ + :? ?",
        )

    def _until_brace(self) -> str:
        out = ""
        while True:
            char = self.peek()
            if char == "":
                raise BuildError(f"bad substitution in {self.text!r}", hint="the closing } is missing")
            if char == "}":
                self.at += 1
                return out
            out += self.piece()

    def piece(self) -> str:
        """One character, quotation, escape or variable, replaced."""
        char = self.next()
        if char == "'":
            out = ""
            while True:
                inner = self.next()
                if inner == "":
                    raise BuildError(f"unexpected end in {self.text!r}", hint="a closing ' is missing")
                if inner == "'":
                    return out
                out += inner
        if char == '"':
            out = ""
            while True:
                inner = self.next()
                if inner == "":
                    raise BuildError(f"unexpected end in {self.text!r}", hint='a closing " is missing')
                if inner == '"':
                    return out
                if inner == "$":
                    out += self.variable()
                elif inner == self.escape and self.peek() in ('"', "$", self.escape):
                    out += self.next()
                else:
                    out += inner
        if char == "$":
            return self.variable()
        if char == self.escape:
            return self.next()
        return char


def expand(text: str, variables: Mapping[str, str], escape: str = "\\", used: set[str] | None = None) -> str:
    """``text`` with variables replaced and quotes taken away; names that were looked up are added to ``used``.

    Raises BuildError for an open quote or brace, a modifier that is not known, or ``${name:?message}``.
    """
    reader = _Reader(text, escape, variables, used)
    out = ""
    while reader.peek():
        out += reader.piece()
    return out


def split(text: str, escape: str = "\\") -> list[str]:
    """The blank-separated words of ``text``, quotes and escapes left in, as they were written."""
    words: list[str] = []
    word = ""
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if quote:
            word += char
            if char == quote:
                quote = ""
            elif char == escape and quote == '"' and at + 1 < len(text):
                at += 1
                word += text[at]
        elif char in "'\"":
            quote = char
            word += char
        elif char == escape and at + 1 < len(text):
            word += char + text[at + 1]
            at += 1
        elif char.isspace():
            if word:
                words.append(word)
            word = ""
        else:
            word += char
        at += 1
    if quote:
        raise BuildError(f"a closing {quote} is missing in {text!r}")
    if word:
        words.append(word)
    return words


def pairs(text: str, instruction: str, escape: str = "\\") -> list[tuple[str, str]]:
    """``a=1 b="2 3"``, or the old form ``name rest of the line``. Values keep their quotes and variables."""
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
