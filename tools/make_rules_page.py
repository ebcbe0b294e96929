"""Write the rules of ``buildfront check`` into docs/check.md from their table.

``make golden`` runs it, a test compares.
"""

from __future__ import annotations

from pathlib import Path

from buildfront.dockerfile.lint import RULES, LintOptions, lint
from buildfront.dockerfile.lint.findings import apply
from buildfront.dockerfile.lint.rules import Rule

PAGE = Path(__file__).parent.parent / "docs" / "check.md"
MARK = "<!-- From here on, tools/make_rules_page.py writes this page. -->\n"


def _mended(rule: Rule) -> str:
    """How the example is mended: ``--fix``, ``--fix=unsafe``, or by hand."""
    result = lint(rule.bad, options=LintOptions(enable=frozenset({rule.name})))
    found = next((item for item in result.findings if item.rule == rule.name), None)
    if found is None or found.fix is None or apply(rule.bad, (found.fix,)) == rule.bad:
        return "by hand"
    return "`--fix`" if found.fix.safe else "`--fix=unsafe`"


def _section(rule: Rule) -> str:
    parts = [
        f"### {rule.name}\n",
        f"{rule.description.rstrip('.')}.\n",
        f"Why: {rule.why}\n",
        f"Mend: {rule.mend}\n",
    ]
    if rule.bad:
        # Pygments does not know empty lines within an instruction.
        language = "" if "\\\n\n" in rule.bad else "dockerfile"
        parts += [f"```{language}\n{rule.bad}```\n", f"Better:\n\n```dockerfile\n{rule.good}```\n"]
    return "\n".join(parts)


def _table(rules: list[Rule]) -> str:
    rows = ["| rule | what it says | on | mended |", "|---|---|---|---|"]
    for rule in rules:
        on = "asked for" if rule.own or rule.experimental else "always"
        rows.append(f"| [{rule.name}](#{_anchor(rule)}) | {rule.description} | {on} | {_mended(rule)} |")
    return "\n".join(rows) + "\n"


def _anchor(rule: Rule) -> str:
    return rule.name.lower().replace("/", "")


def generated() -> str:
    """The part of the page after the mark."""
    theirs = [rule for rule in RULES.values() if not rule.own]
    ours = [rule for rule in RULES.values() if rule.own]
    return "\n".join(
        [
            "## BuildKit's rules\n",
            _table(theirs),
            *map(_section, theirs),
            "## buildfront's rules\n",
            _table(ours),
            *map(_section, ours),
        ]
    )


def page() -> str:
    """The whole page: what is written by hand, and the rules."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + "\n" + generated()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
