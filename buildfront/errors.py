"""Errors of a build, written so that the reader can act: what, where, why, what to do."""

from __future__ import annotations

from typing import NamedTuple


class SourceRange(NamedTuple):
    """Lines of a Dockerfile, counted from 1, both ends included; ``column`` is 1-based, 0 when unknown."""

    file: str
    start: int
    end: int
    column: int = 0


class BuildError(Exception):
    """An error that the user can mend.

    ``what`` is one sentence; ``hint`` says what to do; ``where`` is the place in the Dockerfile. ``status`` is the exit
    status of the program.
    """

    def __init__(
        self,
        what: str,
        *,
        where: SourceRange | None = None,
        hint: str = "",
        output: str = "",
        status: int = 1,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.output = output
        self.status = status

    def at(self, where: SourceRange) -> BuildError:
        """Return the same error with a place, unless it has one."""
        if self.where is None:
            self.where = where
        return self

    def __str__(self) -> str:
        place = f"{self.where.file}:{self.where.start}: " if self.where else ""
        return f"{place}{self.what}" + (f" ({self.hint})" if self.hint else "")


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """Return ``did you mean X?`` for the closest of ``known``, or the empty string."""
    import difflib

    if len(word) > 100:  # too long for a typing error, and slow to compare
        return ""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else ""
