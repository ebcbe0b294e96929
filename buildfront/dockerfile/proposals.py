"""Proposals for a line that begins with no known instruction: a typing mistake, or a part of the line above."""

from __future__ import annotations

import re

from ..errors import nearest
from .blanks import BLANKS
from .forms import KNOWN
from .scanner import Logical

_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")
_AFTER_ESCAPE = {escape: re.compile(rf"{re.escape(escape)}[ \t]+#") for escape in "\\`"}
_DOCUMENT = re.compile("<<-?['\"]?[A-Za-z_]")
CONFLICT = "the file has the marks of a merge conflict"

_CLOSE = 0.62
"""How like a known name a typing mistake is: RNU is, echo is not."""


def for_unknown(keyword: str, before: Logical | None, escape: str) -> str:
    """Return what to do about an unknown instruction; ``before`` is the instruction above it, None for the first."""
    if keyword in _CONFLICT:
        return CONFLICT
    meant = nearest(keyword.upper(), KNOWN, cutoff=_CLOSE)
    if meant:
        return meant
    if before is None:
        return "is it a Dockerfile? The first instruction is FROM or ARG"
    if _AFTER_ESCAPE[escape].search(before.text[-1000:]):
        return f"nothing may follow the {escape} that continues the line above"
    if not before.documents and _DOCUMENT.search(before.text[-1000:].rstrip(BLANKS)):
        return "here-documents are for RUN, COPY and ADD, outside of quotation marks"
    if keyword.isupper():
        return f"known are {', '.join(KNOWN)}"
    return f"does it belong to the line above? That line must end with {escape}"


def is_guess(hint: str) -> bool:
    """Whether the hint names a known instruction, so that the mistake is one of its own."""
    return hint.startswith("did you mean ")
