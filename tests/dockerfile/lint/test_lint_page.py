"""docs/check.md has every rule as the table has it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from buildfront.dockerfile.lint import RULES

PROJECT = Path(__file__).parent.parent.parent.parent


def test_the_page_is_what_the_table_says() -> None:
    spec = importlib.util.spec_from_file_location("make_rules_page", PROJECT / "tools" / "make_rules_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text()
    assert text == module.page(), "run `make golden`"
    assert all(f"\n### {name}\n" in text for name in RULES)


def test_the_page_names_every_option_of_check() -> None:
    from buildfront.cli.check_command import check_command

    text = (PROJECT / "docs/check.md").read_text()
    options = [name for parameter in check_command.params for name in parameter.opts if name.startswith("--")]
    assert [name for name in options if name not in text and name not in ("--file", "--output")] == []
