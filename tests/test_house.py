"""The project's own files say the same thing: README, Makefile, workflow, reference and package metadata."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import buildfront
import run_step

PROJECT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("page", "package"),
    [("buildfront.rst", buildfront), ("run_step.rst", run_step)],
    ids=["buildfront", "run_step"],
)
def test_the_reference_has_every_public_name(page: str, package: object) -> None:
    text = (PROJECT / "docs/reference" / page).read_text()
    described = re.findall(r"^\.\. (?:auto\w+|class):: (\S+)$", text, re.MULTILINE)
    names = {name.removeprefix("run_step.").partition(".")[0] for name in described}
    assert sorted(set(package.__all__) - names - {"__version__"}) == []
    assert sorted(name for name in described if "." not in name and name not in package.__all__) == []


def _targets(text: str) -> list[str]:
    """The targets of the make commands in a text, in their order."""
    return re.findall(r"""(?:^|`|" )make ([a-z][a-z-]*)""", text, re.MULTILINE)


def test_the_readme_the_workflow_and_the_check_run_the_same_commands() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    known = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    script = _targets((PROJECT / ".ci/run").read_text())
    workflow = re.findall(r"- run: (.*)", (PROJECT / ".github/workflows/ci.yml").read_text())
    run = _targets("\n".join(workflow))
    readme = _targets((PROJECT / "README.md").read_text())
    assert script == ["check", "test"]
    assert set(script) <= set(run)
    assert set(run) <= set(readme), "the workflow runs what the README does not mention"
    assert set(readme) <= known


def test_every_target_is_explained() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    explained = re.findall(r"^([a-z][a-z-]*):.* ## \S", makefile, re.MULTILINE)
    assert sorted(phony) == sorted(explained)


def test_the_hooks_are_the_checks() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    commands = re.findall(
        r"^\t\$\(BIN\)/(.*)$", makefile.partition("\ncheck:")[2].partition("\n\n")[0], re.MULTILINE
    )
    hooks = re.findall(r"entry: \.venv/bin/(.*)", (PROJECT / ".pre-commit-config.yaml").read_text())
    assert [command.removesuffix(" .") for command in commands] == hooks


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_the_projects_own_files_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (PROJECT / name).read_text()):
        assert "://" in target or (PROJECT / target).exists(), target


def test_the_changelog_keeps_its_form() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    kinds = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.*)$", section, re.MULTILINE)
        assert len(kinds) == len(set(kinds)), "a kind of change has one heading in a version"


def test_the_version_is_one() -> None:
    metadata = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert metadata["version"] == buildfront.__version__
    assert metadata["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (PROJECT / "LICENSE").read_text()
