"""The errors of a build: what is wrong, where, and what to do."""

from __future__ import annotations

from typing import NamedTuple


class SourceRange(NamedTuple):
    """The lines ``start`` to ``end`` of a Dockerfile, counted from 1, both included.

    ``column`` counts from 1; 0 means that it is unknown.
    """

    file: str
    start: int
    end: int
    column: int = 0


class BuildError(Exception):
    """A build or another operation failed, in a way that the user can do something about.

    Attributes:
        what: What is wrong, in one sentence.
        hint: What to do about it, or empty.
        where: The lines of the Dockerfile that it is about, or None.
        dockerfile: The text of the Dockerfile where there is one, so that these lines can be shown.
        output: The last output of the step that failed.
        status: The exit status for a program: that of the command that failed, 2 for wrong usage, else 1.
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
        self.dockerfile = ""

    def at(self, where: SourceRange) -> BuildError:
        """Set the place, unless there is one already, and return the error."""
        if self.where is None:
            self.where = where
        return self

    def in_text(self, dockerfile: str) -> BuildError:
        """Set the text of the Dockerfile, and return the error."""
        self.dockerfile = dockerfile
        return self

    def __str__(self) -> str:
        place = f"{self.where.file}:{self.where.start}: " if self.where else ""
        return f"{place}{self.what}" + (f" ({self.hint})" if self.hint else "")


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """Return ``did you mean X?`` with the closest of ``known``, or the empty string."""
    import difflib  # only errors need it

    if len(word) > 100:  # not a typing mistake, and comparing takes time
        return ""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else ""
