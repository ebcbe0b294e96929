"""Parser directives: ``# syntax=``, ``# escape=`` and ``# check=`` at the top of a Dockerfile."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BuildError, SourceRange
from .blanks import BLANKS

NAMES = ("syntax", "escape", "check")
_NAME = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=")
_SPACES = "\t\n\f\r "


@dataclass(frozen=True)
class Directive:
    """A directive: its name in lower case, its value, and its line."""

    name: str
    value: str
    source: SourceRange


class DirectiveReader:
    """Reads directives, line by line, until the first line that is none."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen: set[str] = set()
        self.done = False
        self.escape = "\\"
        self.found: list[Directive] = []

    def line(self, text: str, number: int) -> bool:
        """Whether the line is a directive; ``text`` has no blanks at its start.

        Raises BuildError for one that stands twice, and for an escape character that can't be one.
        """
        directive = None if self.done else _directive(text)
        if directive is None:
            self.done = True
            return False
        name, value = directive
        # BuildKit points at the line before, so the range has both.
        place = SourceRange(self._file, max(1, number - 1), number)
        if name in self._seen:
            raise BuildError(
                f"the directive {name!r} stands twice", where=place, hint="keep one of them", about=text
            )
        if name == "escape":
            if value not in ("\\", "`"):
                raise BuildError(
                    f"invalid escape character {value!r}", where=place, hint="it is \\ or `", about=text
                )
            self.escape = value
        self._seen.add(name)
        self.found.append(Directive(name, value, SourceRange(self._file, number, number)))
        return True


def _directive(text: str) -> tuple[str, str] | None:
    if not text.startswith("#"):
        return None
    body = text[1:].lstrip(BLANKS)
    found = _NAME.match(body)
    if found is None or found[1].lower() not in NAMES:
        return None
    rest = body[found.end() :]
    if not rest:
        return None
    return found[1].lower(), rest.strip(_SPACES) or rest[-1]
