"""What each golden Dockerfile becomes is what was reviewed."""

from __future__ import annotations

import json
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


PLANS = (
    sorted((golden_cases.TESTDATA / "dockerfiles").glob("*/expected/plan-*.json")) if SCHEMAS.is_dir() else []
)


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_golden_spec_fits_the_oci_schema(plan: Path) -> None:
    schema = {"$ref": "config-schema.json"}
    validator = jsonschema.Draft4Validator(schema, registry=_registry())
    errors = [error.message for error in validator.iter_errors(json.loads(plan.read_text())["spec"])]
    assert errors == []
