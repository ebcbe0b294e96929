"""The project's own files say the same thing: README, Makefile, workflow, reference and package metadata."""

from __future__ import annotations

import re
from pathlib import Path

import buildfront.api
import pytest

import run_step

PROJECT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("page", "package"),
    [("buildfront.rst", buildfront.api), ("run_step.rst", run_step)],
    ids=["buildfront", "run_step"],
)
def test_the_reference_has_every_public_name(page: str, package: object) -> None:
    text = (PROJECT / "docs/reference" / page).read_text()
    described = re.findall(r"^\.\. auto\w+:: (\S+)$", text, re.MULTILINE)
    names = {name.removeprefix("run_step.").partition(".")[0] for name in described}
    assert sorted(set(package.__all__) - names) == []
    assert sorted(name for name in described if "." not in name and name not in package.__all__) == []
