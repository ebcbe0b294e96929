"""What each golden Dockerfile becomes is what was reviewed."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import golden_cases
import jsonschema
import pytest
import referencing

SCHEMAS = Path(__file__).parent.parent.parent / "shared" / "reference" / "oci-runtime-schema"


@pytest.mark.parametrize("case", golden_cases.CASES, ids=lambda case: case.name)
def test_golden(case: Path) -> None:
    want = {path.name: path.read_text() for path in (case / "expected").glob("*")}
    have = golden_cases.expected(case)
    assert sorted(have) == sorted(want), "run `make golden` and review what it changes"
    for name in sorted(have):
        assert json.loads(have[name]) == json.loads(want[name]), f"{case.name}/expected/{name}"


@pytest.mark.parametrize("case", golden_cases.CASES, ids=lambda case: case.name)
def test_each_case_says_why_it_is_there(case: Path) -> None:
    assert len(tomllib.loads((case / "case.toml").read_text())["reason"]) > 20


def test_there_are_enough_cases() -> None:
    assert len(golden_cases.CASES) >= 15


def _registry() -> referencing.Registry:
    registry = referencing.Registry()
    for path in SCHEMAS.glob("*.json"):
        resource = referencing.Resource(json.loads(path.read_text()), referencing.jsonschema.DRAFT4)
        registry = registry.with_resource(path.name, resource)
    return registry


@pytest.mark.parametrize("case", golden_cases.CASES if SCHEMAS.is_dir() else [], ids=lambda case: case.name)
def test_every_golden_spec_fits_the_oci_schema(case: Path) -> None:
    validator = jsonschema.Draft4Validator({"$ref": "config-schema.json"}, registry=_registry())
    for plan in golden_cases.plans(case).values():
        assert [error.message for error in validator.iter_errors(plan.spec)] == []


def test_every_row_that_plans_has_a_case_or_a_test() -> None:
    settings = [tomllib.loads((case / "case.toml").read_text()) for case in golden_cases.CASES]
    rows = {row for item in settings for row in item.get("rows", [])}
    tests = [*Path(__file__).parent.joinpath("run_step").glob("test_*.py")]
    marks = [mark for path in tests for mark in re.findall(r"^@row\(.*\)$", path.read_text(), re.MULTILINE)]
    rows |= {row for mark in marks for row in re.findall(r'"([SX]\d\d)"', mark)}
    planned = (
        "S01 S02 S03 X04 S10 S11 S12 S13 S14 S15 S16 S17 S18 S19 X20 X21 S30 S31 S32 S33 S34 X35 X36 X37"
    )
    planned += " S40 S41 S42 S43 S44 S45 S50 S51 S52 S53 S54 S60 S61 S62 S63 S64 S66 S67 X83"
    assert set(planned.split()) - rows == set()
