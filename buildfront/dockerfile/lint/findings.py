"""What a check finds, as data: the finding, its place, and the change of the text that mends it."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import SourceRange

WARNING, ERROR = "warning", "error"
"""The levels of a finding. A finding at level ``error`` makes ``buildfront check`` fail."""


class Edit(NamedTuple):
    """The characters ``start`` to ``end`` of the source (``end`` not included) become ``text``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Fix:
    """A mend as changes of the text.

    Attributes:
        edits: The changes. They don't overlap.
        safe: Whether the image stays the same, so that ``--fix`` makes them. Other fixes need ``--fix=unsafe``.
    """

    edits: tuple[Edit, ...]
    safe: bool = True


@dataclass(frozen=True)
class LintFinding:
    """One finding of a check.

    Attributes:
        rule: The name of the rule.
        message: The finding in one sentence, with the names in question. BuildKit's rules have BuildKit's messages.
        where: The place. BuildKit's rules name the lines of a whole instruction; the column is where it is known.
        level: ``warning`` or ``error``.
        url: The page that explains the rule.
        description: The rule in one sentence.
        why: Why it matters.
        fix: How the text can be mended, None where that needs a person.
    """

    rule: str
    message: str
    where: SourceRange
    level: str = WARNING
    url: str = ""
    description: str = ""
    why: str = ""
    fix: Fix | None = None


def apply(text: str, fixes: tuple[Fix, ...]) -> str:
    """Return the text with these fixes. Of two fixes that overlap, only the first is made."""
    chosen: list[Edit] = []
    for fix in fixes:
        if not any(_overlaps(edit, chosen) for edit in fix.edits):
            for edit in fix.edits:
                insort(chosen, edit)
    out: list[str] = []
    at = 0
    for edit in chosen:
        out += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join(out) + text[at:]


def _overlaps(edit: Edit, chosen: list[Edit]) -> bool:
    """Whether an edit touches one of ``chosen``, which is sorted. Two insertions at one place have no order."""
    at = bisect_left(chosen, (edit.start, edit.start, ""))
    before = chosen[at - 1] if at else None
    after = chosen[at] if at < len(chosen) else None
    if before is not None and (before.end > edit.start or before.start == edit.start):
        return True
    return after is not None and (after.start < edit.end or after.start == edit.start)
