"""How a BuildError is shown: the lines of the Dockerfile with the place marked, the last output, what to do."""

from __future__ import annotations

import sys

from ..errors import BuildError, SourceRange

_CONTEXT = 2
_TAIL_LINES = 20


def excerpt(text: str, where: SourceRange) -> str:
    """The lines around the place, numbered, those of the place marked with >>>."""
    lines = text.splitlines()
    first, last = max(1, where.start - _CONTEXT), min(len(lines), where.end + _CONTEXT)
    width = len(str(last))
    out = []
    for number in range(first, last + 1):
        mark = ">>>" if where.start <= number <= where.end else "   "
        out.append(f"  {number:>{width}} | {mark} {lines[number - 1]}".rstrip())
    return "\n".join(out)


def show(error: BuildError) -> int:
    """Print to stderr; returns the exit status that goes with it."""
    out = sys.stderr
    if error.output:
        tail = error.output.rstrip("\n").splitlines()[-_TAIL_LINES:]
        out.write("\nthe step's last output:\n")
        for line in tail:
            out.write(f"  {line}\n")
    text = getattr(error, "dockerfile", "")
    if error.where is not None:
        out.write(f"\n{error.where.file}:{error.where.start}\n")
        if text:
            out.write(excerpt(text, error.where) + "\n")
    out.write(f"error: {error.what}\n")
    if error.hint:
        out.write(f"hint: {error.hint}\n")
    return error.status
