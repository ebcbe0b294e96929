"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
ROWS = re.findall(
    r"^\| ([SX]\d\d) \| (.*?) \| (.*?) \| (.*?) \|$", (PROJECT / "docs/run-step.md").read_text(), re.MULTILINE
)
TESTS = "".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize(("row", "what", "module", "shown"), [row for row in ROWS if "`" not in row[1]])
def test_the_table_of_the_run_step_is_true(row: str, what: str, module: str, shown: str) -> None:
    if "to come" in what and not module:
        return
    if module.startswith("`"):
        assert (PROJECT / "plugins/run_step" / module.strip("`")).is_file()
        if row == "X38":
            return
        assert shown, f"nothing shows {row}"
    for name in re.findall(r"`(test_\w+)`", shown):
        assert f"def {name}(" in TESTS
    for name in re.findall(r"case `([\w-]+)`", shown):
        assert (PROJECT / "testdata/dockerfiles" / name / "case.toml").is_file()


def test_every_line_of_the_security_page_has_its_test() -> None:
    text = (PROJECT / "docs/security.md").read_text()
    names = re.findall(r"`(test_\w+)`", text)
    assert len(names) > 20
    assert [name for name in names if f"def {name}(" not in TESTS] == []


@pytest.mark.parametrize(
    "page", [*sorted((PROJECT / "docs").glob("*.md")), PROJECT / "README.md"], ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_option_is_in_the_reference() -> None:
    from buildfront.cli.build_command import build_command

    text = (PROJECT / "docs/cli.md").read_text()
    options = [name for parameter in build_command.params for name in parameter.opts if name.startswith("--")]
    assert [name for name in options if name not in text] == []
