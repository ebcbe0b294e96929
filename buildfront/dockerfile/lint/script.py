"""The commands of a shell script, as far as rules read them: words, and how the commands are connected.

It is no shell. What it doesn't understand becomes part of a word, so that a rule finds too little and not too much.
Quotes, here-documents, comments and substitutions are never taken for commands.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANK = re.compile(r"[ \t]+")
_PLAIN = re.compile(r"[^\s'\"`\\$&|;()<>#]+")
_OPERATOR = re.compile(r"&&|\|\||;;&?|;&|\|&|[;&|()\n]")
_REDIRECTION = re.compile(r"\d*+(?:<<<|<<-?|>>|>\||[<>]&|&>>?|<>|[<>])")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_SPECIAL = re.compile(r"['\"`\\$(){}]")
_HEREDOC_WORD = re.compile(r"[^\s;&|<>()]+")

_RESERVED = frozenset("if then else elif fi do done while until ! { } time".split())
_COMPOUND = frozenset("for select function".split())
_WRAPPERS = frozenset("sudo env exec command nohup nice doas".split())


class Token(NamedTuple):
    """A word: its text without quotes, and its place in the script."""

    text: str
    start: int
    end: int


class ShellCommand(NamedTuple):
    """A simple command.

    ``before`` and ``after`` are the operators on its two sides, empty at the ends. ``words`` has neither assignments
    nor redirections.
    """

    words: tuple[Token, ...]
    before: str
    after: str
    start: int
    end: int

    @property
    def program(self) -> str:
        """The name of the program without its directory."""
        return self.words[0].text.rpartition("/")[2]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words after the program."""
        return tuple(word.text for word in self.words[1:])

    def unwrapped(self) -> ShellCommand:
        """Return the command that sudo, env or exec starts; the command itself where there is none."""
        words = self.words
        while len(words) > 1 and words[0].text.rpartition("/")[2] in _WRAPPERS:
            rest = words[1:]
            while len(rest) > 1 and (rest[0].text.startswith("-") or _ASSIGNMENT.match(rest[0].text)):
                rest = rest[2 if rest[0].text in ("-u", "-g", "-n") and len(rest) > 2 else 1 :]
            words = rest
        return self._replace(words=words)


def commands(script: str) -> list[ShellCommand]:
    """Return the simple commands of a script, in order."""
    return _Reader(script).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.words: list[Token] = []
        self.before = ""
        self.start = 0
        self.cases = 0
        self.pattern = False
        self.skipping = False
        self.documents: list[tuple[str, bool]] = []
        self.out: list[ShellCommand] = []

    def read(self) -> list[ShellCommand]:
        text = self.text
        while self.at < len(text):
            if (blank := _BLANK.match(text, self.at)) is not None:
                self.at = blank.end()
            elif text[self.at] == "#":
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            elif text.startswith("\\\n", self.at):
                self.at += 2
            elif (redirection := _REDIRECTION.match(text, self.at)) is not None:
                self._redirection(redirection)
            elif (operator := _OPERATOR.match(text, self.at)) is not None:
                self.at = operator.end()
                self._operator(operator[0])
            else:
                self._word()
        self._end("")
        return self.out

    def _operator(self, operator: str) -> None:
        if self.pattern:
            if operator == ")":
                self.pattern, self.before = False, ";"
            return
        self._end(operator)
        if operator == "\n":
            self._bodies()
        elif operator.startswith(";") and len(operator) > 1 and self.cases:
            self.pattern = True

    def _end(self, operator: str) -> None:
        words = self.words
        if words and not self.skipping:
            self.out.append(ShellCommand(tuple(words), self.before, operator, words[0].start, words[-1].end))
        if words or operator != "\n":
            self.before = operator
        self.words, self.skipping = [], False

    def _word(self) -> None:
        start = self.at
        pieces: list[str] = []
        text = self.text
        while self.at < len(text):
            if (plain := _PLAIN.match(text, self.at)) is not None:
                pieces.append(plain[0])
                self.at = plain.end()
                continue
            char = text[self.at]
            if char == "\\":
                if not text.startswith("\\\n", self.at):
                    pieces.append(text[self.at + 1 : self.at + 2])
                self.at += 2
            elif char == "'":
                end = text.find("'", self.at + 1)
                end = len(text) if end < 0 else end
                pieces.append(text[self.at + 1 : end])
                self.at = end + 1
            elif char in '"`$':
                end = _after(text, self.at)
                inside = text[self.at : end]
                pieces.append(inside[1:-1] if char == '"' else inside)
                self.at = end
            elif char == "#":
                pieces.append(char)
                self.at += 1
            else:
                break
        self.at = min(self.at, len(text))
        if self.at == start:  # a character that is nothing of this
            self.at += 1
            return
        self._take(Token("".join(pieces), start, self.at))

    def _take(self, token: Token) -> None:
        raw = self.text[token.start : token.end]
        if self.pattern:  # between case and ), where words are values
            if raw == "esac":
                self.pattern, self.cases = False, self.cases - 1
            return
        if not self.words and not self.skipping:
            if raw == "esac":
                self.cases = max(0, self.cases - 1)
                return
            if raw in _RESERVED or _ASSIGNMENT.match(raw):
                return
            if raw == "case":
                self.cases += 1
                self.pattern = True
                return
            if raw in _COMPOUND:
                self.skipping = True
        if not self.skipping:
            self.words.append(token)

    def _redirection(self, found: re.Match[str]) -> None:
        self.at = found.end()
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank is not None else self.at
        if found[0].lstrip("0123456789") in ("<<", "<<-"):
            word = _HEREDOC_WORD.match(self.text, self.at)
            if word is not None:
                self.at = word.end()
                name = word[0].replace("'", "").replace('"', "").replace("\\", "")
                self.documents.append((name, found[0].endswith("-")))
            return
        kept, self.words = self.words, [Token("", 0, 0)]
        if self.at < len(self.text) and _OPERATOR.match(self.text, self.at) is None:
            self._word()
        self.words = kept

    def _bodies(self) -> None:
        """Pass over the here-documents that the line named."""
        for name, tabs in self.documents:
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line = self.text[self.at : end]
                self.at = end + 1
                if (line.lstrip("\t") if tabs else line) == name:
                    break
        self.documents = []


def _after(text: str, at: int) -> int:
    """Return the place after the quotation, substitution or variable that begins at ``at``."""
    stack: list[str] = []
    if text[at] == "$" and text[at + 1 : at + 2] not in ("(", "{"):
        return at + 1
    while at < len(text):
        found = _SPECIAL.search(text, at)
        if found is None:
            return len(text)
        at = found.end()
        char = found[0]
        top = stack[-1] if stack else ""
        if char == "\\":
            at += 1
        elif char == top:
            stack.pop()
            if not stack:
                return at
        elif char in '"`':
            stack.append(char)
        elif char == "'" and top != '"':
            end = text.find("'", at)
            at = len(text) if end < 0 else end + 1
        elif char == "$" and text[at : at + 1] in ("(", "{"):
            stack.append(")" if text[at] == "(" else "}")
            at += 1
        elif char == "(" and top == ")":
            stack.append(")")
        if not stack:
            return at
    return len(text)
