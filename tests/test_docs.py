"""What the documents name exists."""

from __future__ import annotations

import ast
import fnmatch
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
TABLE = (PROJECT / "docs/run-step.md").read_text().partition("\n## ")[0]
ROWS = re.findall(r"^\| ([SX]\d\d) \| (.*?) \| (.*?) \| (.*?) \|$", TABLE, re.MULTILINE)


def _rows_of_tests() -> dict[str, list[set[str]]]:
    """Return for every name of a test the rows that each test of this name is marked with."""
    found: dict[str, list[set[str]]] = {}
    for path in (PROJECT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(_rows_of(node))
    return found


def _rows_of(test: ast.FunctionDef) -> set[str]:
    calls = [item for item in test.decorator_list if isinstance(item, ast.Call)]
    calls = [item for item in calls if isinstance(item.func, ast.Name) and item.func.id == "row"]
    return {ast.literal_eval(word) for item in calls for word in item.args}


TESTS = _rows_of_tests()


@pytest.mark.parametrize(("row", "what", "module", "shown"), ROWS)
def test_the_table_of_the_run_step_is_true(row: str, what: str, module: str, shown: str) -> None:
    if "to come" in what and not module:
        return
    assert (PROJECT / "plugins/run_step" / module.strip("`")).is_file()
    assert shown, f"nothing shows {row}"
    for name in re.findall(r"`(test_\w+)`", shown):
        assert name in TESTS, f"{row} names a test that does not exist: {name}"
        assert any(row in rows for rows in TESTS[name]), f'{name} has no marker @row("{row}")'
    for name in re.findall(r"`(?!test_)([a-z][\w-]+)`", shown):
        assert (PROJECT / "testdata/dockerfiles" / name / "case.toml").is_file()


def test_every_marker_names_a_row_of_the_table() -> None:
    known = {row for row, *_ in ROWS}
    assert len(known) > 50
    assert {row for tests in TESTS.values() for rows in tests for row in rows} - known == set()


def test_every_row_has_a_test() -> None:
    marked = {row for tests in TESTS.values() for rows in tests for row in rows}
    assert {row for row, *_ in ROWS} - marked == set()


def test_names_of_tests_are_sentences_without_a_row() -> None:
    assert [name for name in TESTS if re.match(r"test_([SX]\d\d)", name)] == []


def test_every_line_of_the_security_page_has_its_test() -> None:
    text = (PROJECT / "docs/security.md").read_text()
    names = re.findall(r"`(test_\w+)`", text)
    assert len(names) > 20
    assert [name for name in names if name not in TESTS] == []


def test_every_line_of_the_dockerfile_page_has_its_cases() -> None:
    text = (PROJECT / "docs/dockerfile.md").read_text()
    cases = [path.parent.name.split("-", 1)[1] for path in (PROJECT / "testdata/oracle").glob("*/case.toml")]
    rows = re.findall(r"^\| (?!part|instruction|---)(.*?) \|.*\|\s*([^|]*?)\s*\|$", text, re.MULTILINE)
    assert len(rows) > 30
    for what, shown in rows:
        names = re.findall(r"`([^`]+)`", shown)
        assert names, f"nothing shows {what}"
        for name in names:
            assert name in TESTS or fnmatch.filter(cases, name), f"{what}: there is no {name}"


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
