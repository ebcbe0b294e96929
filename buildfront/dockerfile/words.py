"""Words: quoting and variables, as BuildKit reads them (Dockerfile reference, "Environment replacement").

Pure functions over strings; the caller gives the variables. The text comes from a stranger: runs of ordinary
characters are read at once, and variables may add only so much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import BuildError
from . import shell_pattern
from .blanks import BLANK_RUN

LARGEST = 1 << 20
"""The most characters that variables may add to one text: forty lines ``ENV A=$A$A`` would make a terabyte."""

_DEEPEST = 100
"""How deep variables may stand in the defaults of variables."""

_SPECIAL = "@*#?-$!"
"""The shell's special parameters: each is a name, and none is ever set."""

_NAME = re.compile(r"\w*")
_DIGITS = re.compile(r"\d+")
_DOCUMENT = re.compile(r"<<[\t\r ]*")


class Expansion(NamedTuple):
    """A text whose variables were replaced.

    ``words`` are its parts between unquoted blanks; they are only there if they were asked for. ``matched`` and
    ``unmatched`` are the names that were looked up, those with a value and those without.
    """

    text: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


class _Runs:
    """Expressions for runs of characters without a special meaning, for one escape character."""

    def __init__(self, escape: str) -> None:
        mark = re.escape(escape)
        self.quoted = re.compile(rf"[^$\"{mark}]+")
        self.until = {stop: re.compile(rf"[^$'\"{mark}{stop}]+") for stop in ("", "<", "}", "/")}
        self.until_plain = {stop: re.compile(rf"[^${mark}{stop}]+") for stop in ("", "<", "}", "/")}


_RUNS = {escape: _Runs(escape) for escape in "\\`"}


class _Reader:
    """Reads one text. The keywords are those of :func:`process`."""

    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        escape: str,
        *,
        split: bool = False,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        plain_quotes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self.text = text
        self.at = 1 if text.startswith("\ufeff") else 0
        self.escape = escape
        self.runs = _RUNS[escape]
        self.variables = variables
        self.split = split
        self.raw_quotes = raw_quotes
        self.raw = raw_escapes
        self.plain_quotes = plain_quotes
        self.keep_unset = keep_unset
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()
        self.words: list[str] = []
        self._word: list[str] = []
        self._added = 0
        self._depth = 0

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

    def whole(self) -> str:
        """Return the whole text, replaced."""
        out = []
        plain = self._plain_run("<" if self.split else "")
        while self.at < len(self.text):
            run = self.take(plain)
            out.append(run)
            if self.split:
                self._add(run)
            if self.at >= len(self.text):
                break
            char = self.peek()
            document = self.take(_DOCUMENT) if self.split and char == "<" else ""
            piece = document or self.piece()
            out.append(piece)
            if not self.split:
                continue
            if char == "$":
                self._add(piece)
            elif piece:
                self._word.append(piece)
        self._end_word()
        return "".join(out)

    def _plain_run(self, stop: str) -> re.Pattern[str]:
        return (self.runs.until_plain if self.plain_quotes else self.runs.until)[stop]

    def _add(self, text: str) -> None:
        """Add text to the words; its blanks end words."""
        for number, part in enumerate(BLANK_RUN.split(text)):
            if number:
                self._end_word()
            if part:
                self._word.append(part)

    def _end_word(self) -> None:
        if self._word:
            self.words.append("".join(self._word))
            self._word = []

    def until(self, stop: str, *, raw: bool) -> str:
        """Return what stands before ``stop``, replaced. With ``raw`` escape characters stay."""
        before, self.raw = self.raw, raw
        self._word = []  # as in BuildKit: what stands directly before ${name:-word} is lost where words are split
        out = []
        plain = self._plain_run(stop)
        while True:
            out.append(self.take(plain))
            char = self.peek()
            if char == stop:
                self.at += 1
                self.raw = before
                return "".join(out)
            if char == "":
                form = "the closing } is missing" if stop == "}" else "the form is ${name/pattern/text}"
                raise BuildError(f"bad substitution in {self.text!r}", hint=form, about=self.text)
            out.append(self.piece())

    def piece(self) -> str:
        """Return one quotation, escape or variable, replaced."""
        char = self.next()
        if char == "'" and not self.plain_quotes:
            start, end = self.at, self.text.find("'", self.at)
            if end < 0:
                raise self._open_quote("'", start)
            self.at = end + 1
            return self.text[start - 1 : end + 1] if self.raw_quotes else self.text[start:end]
        if char == '"' and not self.plain_quotes:
            return self._double_quotes()
        if char == "$":
            return self._variable()
        if char == self.escape:
            following = self.next()
            return char + following if self.raw else following
        return char

    def _double_quotes(self) -> str:
        start = self.at
        out = ['"'] if self.raw_quotes else []
        while True:
            out.append(self.take(self.runs.quoted))
            char = self.next()
            if char == "":
                raise self._open_quote('"', start)
            if char == '"':
                return "".join(out) + ('"' if self.raw_quotes else "")
            if char == "$":
                out.append(self._variable())
                continue
            if self.raw:
                out.append(char)
            if self.peek() and self.peek() in ('"', "$", self.escape):
                char = self.next()
            out.append(char)

    def _open_quote(self, quote: str, start: int) -> BuildError:
        about = self.text[start - 1 :]
        return BuildError(
            f"unexpected end in {self.text!r}", hint=f"a closing {quote} is missing", about=about
        )

    def _variable(self) -> str:
        """Return the value of the variable after ``$``, or ``$`` where no name follows."""
        if self.peek() == "{":
            self.at += 1
            self._depth += 1
            if self._depth > _DEEPEST:
                raise BuildError(
                    f"more than {_DEEPEST} variables in each other's defaults",
                    hint="set a variable of its own in between",
                )
            value = self._braced(self.at - 2)
            self._depth -= 1
            return value
        name = self._name()
        if not name:
            return "$"
        found = self._value(name)
        if found is None:
            return f"${name}" if self.keep_unset else ""
        return self._grown(found)

    def _name(self) -> str:
        char = self.peek()
        if char and char in _SPECIAL:
            return self.next()
        if char.isdecimal():
            return self.take(_DIGITS)
        name = self.take(_NAME)
        if not name.isascii():  # letters and digits of any script, but no other character that \w has
            for number, char in enumerate(name):
                if not (char.isalpha() or char.isdecimal() or char == "_"):
                    self.at -= len(name) - number
                    return name[:number]
        return name

    def _value(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def _grown(self, value: str) -> str:
        self._added += len(value)
        if self._added > LARGEST:
            raise BuildError(
                f"the variables in one value come to more than {LARGEST} characters",
                hint="does a variable hold itself, as in ENV A=$A$A?",
            )
        return value

    def _bad(self, start: int, hint: str) -> BuildError:
        about = self.text[start : self.at]
        return BuildError(f"bad substitution in {self.text!r}", hint=hint, about=about)

    def _braced(self, start: int) -> str:
        char = self.peek()
        if char in ("{", "}", ":"):
            raise self._bad(start, "a variable's name is missing after ${")
        name = self._name()
        char = self.next()
        if char == "}":
            value = self._value(name)
            if value is None:
                return f"${{{name}}}" if self.keep_unset else ""
            return self._grown(value)
        if char == "/":
            return self._replaced(name)
        colon = char == ":"
        operator = self.next() if colon else char
        pattern = operator in ("#", "%")
        if operator == "":
            raise self._bad(start, "the closing } is missing")
        known = operator in ("-", "+", "?", "#", "%")
        wrong = (
            pattern if colon else not known
        )  # any other one after a colon is refused below, as in BuildKit
        if wrong:
            raise self._unknown(start, name, char + (operator if colon else ""))
        word = self.until("}", raw=pattern)
        value = self._value(name)
        if value is None and self.keep_unset:
            return f"${{{name}{char}{operator if colon else ''}{word}}}"
        if not known:
            raise self._unknown(start, name, char + operator)
        if pattern:
            longest = word.startswith(operator)
            without = shell_pattern.without_suffix if operator == "%" else shell_pattern.without_prefix
            return self._grown(without(word[longest:], value or "", longest=longest))
        unset = value is None or (colon and value == "")
        if operator == "-":
            return word if unset else self._grown(value or "")
        if operator == "+":
            return "" if unset else word
        if unset:
            state = "the variable is not set" if value is None else "the variable is empty"
            raise BuildError(
                f"{name}: {word or state}",
                hint="give it with --build-arg or ENV",
                about=self.text[start : self.at],
            )
        return self._grown(value or "")

    def _unknown(self, start: int, name: str, modifier: str) -> BuildError:
        return BuildError(
            f"unknown modifier {modifier!r} after ${{{name} in {self.text!r}",
            hint="known are :- - :+ + :? ? # ## % %% / and //",
            about=self.text[start : self.at],
        )

    def _replaced(self, name: str) -> str:
        every = self.peek() == "/"
        self.at += every
        pattern = self.until("/", raw=True)
        replacement = self.until("}", raw=True)
        value = self._value(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        left = LARGEST - self._added
        return self._grown(shell_pattern.replaced(pattern, value or "", replacement, every=every, most=left))


def process(
    text: str,
    variables: Mapping[str, str],
    escape: str = "\\",
    *,
    split: bool = False,
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    plain_quotes: bool = False,
    keep_unset: bool = False,
) -> Expansion:
    """Return ``text`` with variables replaced and quotes removed.

    ``split`` also gives its words, divided after variables were replaced. ``raw_quotes`` keeps quotation marks,
    ``raw_escapes`` keeps escape characters, ``keep_unset`` keeps variables without a value. With ``plain_quotes``
    quotation marks mean nothing, as in the content of a here-document.

    Raises BuildError for an open quote or brace, an unknown modifier, ``${name:?message}``, and for variables that
    add more than LARGEST characters.
    """
    reader = _Reader(
        text,
        variables,
        escape,
        split=split,
        raw_quotes=raw_quotes,
        raw_escapes=raw_escapes,
        plain_quotes=plain_quotes,
        keep_unset=keep_unset,
    )
    whole = reader.whole()
    return Expansion(whole, tuple(reader.words), frozenset(reader.matched), frozenset(reader.unmatched))


def expand(text: str, variables: Mapping[str, str], escape: str = "\\", used: set[str] | None = None) -> str:
    """Return ``text`` with variables replaced and quotes removed; names that are looked up are added to ``used``.

    Raises BuildError as :func:`process` does.
    """
    reader = _Reader(text, variables, escape)
    whole = reader.whole()
    if used is not None:
        used |= reader.matched | reader.unmatched
    return whole


def expand_words(text: str, variables: Mapping[str, str], escape: str = "\\") -> tuple[str, ...]:
    """Return the words of ``text`` after its variables were replaced. Raises BuildError as :func:`process` does."""
    return process(text, variables, escape, split=True).words


def expand_document(content: str, variables: Mapping[str, str]) -> str:
    """Return the content of a here-document with its variables replaced; quotation marks stay.

    The escape character is the backslash, whatever the file says. Raises BuildError as :func:`process` does.
    """
    return process(content, variables, plain_quotes=True).text
