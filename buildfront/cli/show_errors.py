"""A BuildError for a person: the last output, the lines of the Dockerfile, what is wrong, what to do."""

from __future__ import annotations

import sys

from buildfront import BuildError, SourceRange, step_line, visible

_CONTEXT = 2
_TAIL_LINES = 20
_LONGEST, _WIDEST = 40, 500
"""The most lines of a Dockerfile that an error shows, and the most characters of a line."""


def excerpt(text: str, where: SourceRange, mark: tuple[int, int, int] = (0, 0, 0)) -> str:
    """Return the lines around the place, numbered, with >>> before those of the place.

    ``mark`` is a line, a column and a length: that part is underlined.
    """
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
        pointer = ">>>" if where.start <= number <= where.end else "   "
        line = visible(lines[number - 1], _WIDEST, keep="\t")
        out.append(f"  {number:>{width}} | {pointer} {line}".rstrip())
        if number == mark[0] and len(lines[number - 1]) <= _WIDEST:
            before = visible(lines[number - 1][: mark[1] - 1], _WIDEST, keep="\t")
            marked = visible(lines[number - 1][mark[1] - 1 :][: mark[2]], _WIDEST, keep="\t")
            indent = "".join(char if char == "\t" else " " for char in before)
            out.append(f"  {'':>{width}} |     {indent}{'^' * len(marked)}")
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
    for mistake in (error, *error.others):
        _show(mistake)
    return error.status


def _show(error: BuildError) -> None:
    """Print one mistake."""
    out = sys.stderr
    where = error.where
    if where is not None:
        column = f":{where.column}" if where.column else ""
        out.write(f"\n{visible(where.file)}:{where.start}{column}\n")
        if error.dockerfile:
            out.write(excerpt(error.dockerfile, where, (*error.marked(), len(error.about) or 1)) + "\n")
    out.write(f"error: {visible(error.what)}\n")
    if error.hint:
        out.write(f"hint: {visible(error.hint)}\n")
