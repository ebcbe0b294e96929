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
        about: The part of these lines that is wrong, as written there, or empty.
        others: Further mistakes in the same Dockerfile, which have nothing to do with this one.
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
        about: str = "",
        others: tuple[BuildError, ...] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.output = output
        self.status = status
        self.dockerfile = ""
        self.about = about
        self.others = others

    def at(self, where: SourceRange) -> BuildError:
        """Set the place, unless there is one already, and return the error."""
        if self.where is None:
            self.where = where
        return self

    def in_text(self, dockerfile: str) -> BuildError:
        """Set the text of the Dockerfile, and the column where the text shows it, and return the error."""
        self.dockerfile = dockerfile
        if self.where is not None and self.about and not self.where.column:
            line, column = self.marked()
            if line == self.where.start:
                self.where = self.where._replace(column=column)
        for other in self.others:
            other.in_text(dockerfile)
        return self

    def marked(self) -> tuple[int, int]:
        """Return the line and the column, both from 1, at which ``about`` stands; zeros where it can't be found."""
        if self.where is None or not self.about:
            return 0, 0
        if self.where.column:
            return self.where.start, self.where.column
        lines = self.dockerfile.removeprefix("\ufeff").split("\n")[self.where.start - 1 : self.where.end]
        for number, line in enumerate(lines, self.where.start):
            if (found := line.find(self.about)) >= 0:
                return number, found + 1
        return 0, 0

    def __str__(self) -> str:
        place = f"{self.where.file}:{self.where.start}: " if self.where else ""
        return f"{place}{self.what}" + (f" ({self.hint})" if self.hint else "")


def closest(word: str, known: list[str] | tuple[str, ...], *, cutoff: float = 0.5) -> str:
    """Return the one of ``known`` that is most like ``word``, or the empty string for none that is so close."""
    import difflib  # only errors need it

    if len(word) > 100:  # not a typing mistake, and comparing takes time
        return ""
    found = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return found[0] if found else ""


def nearest(word: str, known: list[str] | tuple[str, ...], *, cutoff: float = 0.5) -> str:
    """Return ``did you mean X?`` with the :func:`closest` of ``known``, or the empty string."""
    found = closest(word, known, cutoff=cutoff)
    return f"did you mean {found}?" if found else ""
