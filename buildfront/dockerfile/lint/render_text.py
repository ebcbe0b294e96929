"""Findings as docker buildx prints them, and with what a person wants to know besides."""

from __future__ import annotations

from ...errors import BuildError, SourceRange
from ...text import visible
from .findings import LintFinding, apply
from .rules import RULES

_RULER = "-" * 20
_WIDEST = 500
_MOST_LINES = 40


def count_text(count: int) -> str:
    """Return the first line of docker buildx's answer to ``--check``."""
    if not count:
        return "Check complete, no warnings found."
    found = "1 warning has been found!" if count == 1 else f"{count} warnings have been found!"
    return f"Check complete, {found}"


def findings_text(findings: tuple[LintFinding, ...], text: str, *, full: bool) -> str:
    """Return the findings by line, each with the lines of the source. ``full`` adds why, and what to do."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    out = []
    for found in sorted(findings, key=lambda item: item.where.start):
        head = f"\n{found.level.upper()}: {found.rule}"
        out.append(f"{head} - {found.url}" if found.url else head)
        out.append(visible(found.message))
        if full:
            out.append(f"why: {found.why}")
            out += _mended(found, text)
        out.append(excerpt(lines, found.where))
    return "".join(f"{line}\n" for line in out)


def _mended(found: LintFinding, text: str) -> list[str]:
    """Return how to mend it, and the mended lines where they are known."""
    out = [f"mend: {RULES[found.rule].mend}"]
    fix = found.fix
    if fix is None:
        return out
    start = text.rfind("\n", 0, fix.edits[0].start) + 1
    end = text.find("\n", fix.edits[-1].end)
    end = len(text) if end < 0 else end
    shown = [edit._replace(start=edit.start - start, end=edit.end - start) for edit in fix.edits]
    mended = apply(text[start:end], (fix.__class__(tuple(shown), fix.safe),))
    name = "--fix" if fix.safe else "--fix=unsafe"
    out += [f"{name}: {visible(line, _WIDEST, keep=chr(9))}" for line in mended.splitlines()[:_MOST_LINES]]
    return out


def excerpt(lines: list[str], where: SourceRange) -> str:
    """Return the lines around a place as BuildKit shows them: two around several lines, four around one."""
    if not 1 <= where.start <= len(lines):
        return f"{visible(where.file)}:{where.start}"
    first, last = where.start, min(max(where.end, where.start), len(lines))
    most, start, end, added = (4 if first == last else 2), first, last, 0
    while added < most:
        if start > 1:
            start -= 1
            added += 1
        if end != len(lines):
            end += 1
            added += 1
        added += 1
    numbers = [*range(start, end + 1)]
    out = [f"{visible(where.file)}:{where.start}", _RULER]
    if len(numbers) > _MOST_LINES:
        numbers = [*numbers[: _MOST_LINES // 2], 0, *numbers[-(_MOST_LINES // 2) :]]
    for number in numbers:
        if not number:
            out.append(f" ... | ... {end - start + 1 - _MOST_LINES} lines more")
            continue
        mark = ">>>" if first <= number <= last else "   "
        out.append(f" {number:3d} | {mark} {visible(lines[number - 1], _WIDEST, keep=chr(9))}")
    return "\n".join([*out, _RULER])


def error_text(error: BuildError, text: str) -> str:
    """Return the error that ended a check, and further ones, in the form of findings."""
    return "\n".join(_one_error(item, text) for item in (error, *error.others))


def _one_error(error: BuildError, text: str) -> str:
    out = visible(error.what) + (f" ({visible(error.hint)})" if error.hint else "")
    if error.where is None:
        return out + "\n"
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    return f"{out}\n{excerpt(lines, error.where)}\n"
