"""The rules about the file as a whole: the spelling of its instructions, and the names of its stages."""

from __future__ import annotations

from ..instructions import From, Instruction
from .collected import Report
from .findings import Fix
from .source_text import SourceText

_RESERVED = ("context", "scratch")


def check_stage_names(items: list[Instruction], report: Report) -> None:
    """Note names that are reserved, and names that two stages have."""
    seen = set()
    for item in items:
        if not isinstance(item, From) or not item.name:
            continue
        if item.name in _RESERVED:
            report.add(
                "ReservedStageName",
                f'Stage name should not use the same name as reserved stage "{item.name}"',
                item.source,
            )
        if item.name in seen:
            report.add(
                "DuplicateStageName",
                f'Duplicate stage name "{item.name}", stage names should be unique',
                item.source,
            )
        seen.add(item.name)


def check_casing(items: list[Instruction], source: SourceText, report: Report) -> None:
    """Note instructions that are not spelt like most of them. Arguments above the first FROM don't count."""
    first = next((at for at, item in enumerate(items) if isinstance(item, From)), len(items))
    spelt = []
    for item in items[first:]:
        joined = source.joined(item)
        keyword = next(joined.words(), None)
        if keyword is not None:
            spelt.append((item, joined, keyword))
    lower = sum(keyword.text.islower() for _, _, keyword in spelt)
    upper = sum(keyword.text.isupper() for _, _, keyword in spelt)
    is_lower = lower > upper
    # FROM is looked at before the instructions of its stage, as in BuildKit.
    for item, joined, keyword in spelt:
        wanted = keyword.text.lower() if is_lower else keyword.text.upper()
        if keyword.text == wanted:
            continue
        edit = joined.edit(keyword.start, keyword.end, wanted)
        report.add(
            "ConsistentInstructionCasing",
            f"Command '{keyword.text}' should match the case of the command majority "
            f"({'lowercase' if is_lower else 'uppercase'})",
            item.source,
            fix=Fix((edit,)) if edit else None,
        )
