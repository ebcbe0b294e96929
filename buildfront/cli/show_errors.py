"""How a BuildError is shown: the lines of the Dockerfile with the place marked, the last output, what to do."""

from __future__ import annotations

import sys

from ..errors import BuildError, SourceRange
from ..text import step_line, visible

_CONTEXT = 2
_TAIL_LINES = 20
_LONGEST, _WIDEST = 40, 500
"""Lines and characters that an error shows of a Dockerfile."""


def excerpt(text: str, where: SourceRange) -> str:
    """The lines around the place, numbered, those of the place marked with >>>."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")  # as they were counted
    if lines and not lines[-1]:
        lines.pop()
    first, last = max(1, where.start - _CONTEXT), min(len(lines), where.end + _CONTEXT)
    shown = [*range(first, last + 1)]
    if len(shown) > _LONGEST:
        shown = [*shown[: _LONGEST // 2], 0, *shown[-(_LONGEST // 2) :]]
    width = len(str(last))
    out = []
    for number in shown:
        if not number:
            out.append(f"  {'':>{width}} | ... {last - first + 1 - _LONGEST} lines more")
            continue
        mark = ">>>" if where.start <= number <= where.end else "   "
        line = visible(lines[number - 1], _WIDEST, keep="\t")
        out.append(f"  {number:>{width}} | {mark} {line}".rstrip())
    return "\n".join(out)


def show(error: BuildError) -> int:
    """Print to stderr; returns the exit status that goes with it. Most of it is strangers' text: nothing of it speaks
    to the terminal."""
    out = sys.stderr
    if error.output:
        tail = error.output.rstrip("\n").split("\n")[-_TAIL_LINES:]
        out.write("\nthe step's last output:\n")
        for line in tail:
            out.write(f"  {step_line(line)}\n")
    text = getattr(error, "dockerfile", "")
    if error.where is not None:
        out.write(f"\n{visible(error.where.file)}:{error.where.start}\n")
        if text:
            out.write(excerpt(text, error.where) + "\n")
    out.write(f"error: {visible(error.what)}\n")
    if error.hint:
        out.write(f"hint: {visible(error.hint)}\n")
    return error.status
