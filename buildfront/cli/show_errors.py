"""A BuildError for a person: the last output, the lines of the Dockerfile, what is wrong, what to do."""

from __future__ import annotations

import sys

from buildfront import BuildError, SourceRange, step_line, visible

_CONTEXT = 2
_TAIL_LINES = 20
_LONGEST, _WIDEST = 40, 500
"""The most lines of a Dockerfile that an error shows, and the most characters of a line."""


def excerpt(text: str, where: SourceRange) -> str:
    """Return the lines around the place, numbered, with >>> before those of the place."""
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
    """Print the error to standard error, and return its exit status.

    Most of the text comes from others: whatever would control the terminal is made visible.
    """
    out = sys.stderr
    if error.output:
        tail = error.output.rstrip("\n").split("\n")[-_TAIL_LINES:]
        out.write("\nthe step's last output:\n")
        for line in tail:
            out.write(f"  {step_line(line)}\n")
    text = error.dockerfile
    if error.where is not None:
        out.write(f"\n{visible(error.where.file)}:{error.where.start}\n")
        if text:
            out.write(excerpt(text, error.where) + "\n")
    out.write(f"error: {visible(error.what)}\n")
    if error.hint:
        out.write(f"hint: {visible(error.hint)}\n")
    return error.status
