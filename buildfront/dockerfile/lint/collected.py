"""Where rules put what they find: switched on or off, with what the table says of the rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...errors import SourceRange
from .check_settings import CheckSettings
from .findings import ERROR, WARNING, Fix, LintFinding
from .rules import RULES

_MOST_WORK = 2_000_000
"""How many characters are compared in all to find names that were meant: a hostile file may have any number."""

_LONGEST = 100
_NEAR = 3
"""Names that differ in fewer characters than this are taken for each other, as in BuildKit."""


class Report:
    """The findings of one check, in the order in which they were found."""

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.findings: list[LintFinding] = []
        self._work = 0

    def on(self, name: str, settings: CheckSettings | None = None) -> bool:
        """Whether a rule is on, for an instruction with ``settings`` of its own."""
        return (settings or self.settings).is_on(name)

    def add(
        self,
        name: str,
        message: str,
        where: SourceRange,
        *,
        settings: CheckSettings | None = None,
        fix: Fix | None = None,
    ) -> None:
        """Note a finding, if its rule is on."""
        if not self.on(name, settings):
            return
        rule = RULES[name]
        level = ERROR if self.settings.error else WARNING
        self.findings.append(
            LintFinding(name, message, where, level, rule.url, rule.description, rule.why, fix)
        )

    def nearest(self, name: str, known: Iterable[str]) -> str:
        """Return the known name that differs least from ``name``, empty if none is near."""
        best, found = _NEAR, ""
        if len(name) > _LONGEST:
            return ""
        for other in known:
            self._work += 1
            if self._work > _MOST_WORK:
                break
            if name == other:
                return ""
            if abs(len(name) - len(other)) >= best:
                continue
            self._work += len(name) * len(other)
            distance = difference(name, other)
            if distance < best:
                best, found = distance, other
        return found

    def raised(self, names: frozenset[str]) -> None:
        """Make the findings of these rules errors; ``all`` stands for every rule."""
        self.findings = [
            replace(found, level=ERROR) if found.rule in names or "all" in names else found
            for found in self.findings
        ]


def difference(one: str, other: str) -> int:
    """Return how many characters must be changed, added or removed to make one text of the other."""
    row = list(range(len(other) + 1))
    for count, char in enumerate(one, 1):
        before, row[0] = row[0], count
        for at, second in enumerate(other, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (char != second))
    return row[-1]
