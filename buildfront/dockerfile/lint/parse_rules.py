"""The rules about the form of single instructions, which hold before anything is known of stages and variables."""

from __future__ import annotations

from ..instructions import Arg, From, Instruction, Word
from .check_settings import CheckSettings
from .collected import Report
from .findings import Edit, Fix
from .source_text import Joined, SourceText, Span


def check_forms(items: list[Instruction], source: SourceText, report: Report) -> None:
    """Note empty continuation lines, names and keywords in the wrong case, MAINTAINER, and misleading comments."""
    for item in items:
        joined = source.joined(item)
        if joined.empty:
            place = item.source._replace(start=joined.last, end=joined.last)
            report.add("NoEmptyContinuation", "Empty continuation line", place, fix=_without(joined, source))
    for item in items:
        above = item.comments
        settings = report.settings.above(above)
        if isinstance(item, Word) and item.kind == "MAINTAINER":
            message = "Maintainer instruction is deprecated in favor of using label"
            report.add(
                "MaintainerDeprecated",
                message,
                item.source,
                settings=settings,
                fix=_label(item, source.joined(item)),
            )
        elif isinstance(item, From):
            _from(item, source, settings, above, report)
        elif isinstance(item, Arg):
            names = [name for name, _ in item.args]
            _description("ARG", names, item, above, source, settings, report)


def from_words(joined: Joined) -> tuple[Span, list[Span], list[Span]]:
    """Return the keyword of a FROM, its flags, and its other words."""
    keyword, *rest = joined.words()
    flags = []
    while rest and rest[0].text.startswith("--"):
        flags.append(rest.pop(0))
    return keyword, flags, rest


def _without(joined: Joined, source: SourceText) -> Fix:
    return Fix(tuple(Edit(source.start(line), source.start(line + 1), "") for line in joined.empty))


def _label(item: Word, joined: Joined) -> Fix | None:
    if any(char in item.value for char in "\"'\\`$"):
        return None
    text = f'LABEL org.opencontainers.image.authors="{item.value}"'
    edit = joined.edit(0, len(joined.text.rstrip()), text)
    return Fix((edit,), safe=False) if edit else None


def _fix(edit: Edit | None, *, safe: bool = True) -> Fix | None:
    return Fix((edit,), safe) if edit is not None else None


def _from(
    item: From, source: SourceText, settings: CheckSettings, above: tuple[str, ...], report: Report
) -> None:
    joined = source.joined(item)
    keyword, _, words = from_words(joined)
    if len(words) == 3:
        as_, name = words[1], words[2]
        if name.text != name.text.lower():
            report.add(
                "StageNameCasing",
                f"Stage name '{name.text}' should be lowercase",
                item.source,
                settings=settings,
                fix=_fix(joined.edit(name.start, name.end, name.text.lower())),
            )
        upper, lower = keyword.text.isupper(), keyword.text.islower()
        wanted = as_.text.lower() if lower else as_.text.upper()
        if (upper or lower) and as_.text != wanted:
            report.add(
                "FromAsCasing",
                f"'{as_.text}' and '{keyword.text}' keywords' casing do not match",
                item.source,
                settings=settings,
                fix=_fix(joined.edit(as_.start, as_.end, wanted)),
            )
    if item.name:
        _description("FROM", [item.name], item, above, source, settings, report)


def _description(
    instruction: str,
    names: list[str],
    item: Instruction,
    above: tuple[str, ...],
    source: SourceText,
    settings: CheckSettings,
    report: Report,
) -> None:
    if not above or not names or above[-1].split(" ")[0] in names:
        return
    example = names[0] if len(names) == 1 else "<arg_key>"
    fix = None
    if not any(comment.lower().startswith("check") for comment in above):
        place = source.start(item.source.start)
        end = "\r\n" if source.text[:place].endswith("\r\n") else "\n"
        fix = Fix((Edit(place, place, "#" + end),))
    report.add(
        "InvalidDefinitionDescription",
        f"Comment for {instruction} should follow the format: `# {example} <description>`",
        item.source,
        settings=settings,
        fix=fix,
    )
