"""The JSON Schemas of the plugin's contract: true to the types, and every golden plan fits."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import golden_cases
import pytest

from run_step import RequestError, RunRequest, validate

TOOL = Path(__file__).parent.parent / "tools" / "make_schemas.py"
PLANS = sorted((golden_cases.TESTDATA / "dockerfiles").glob("*/expected/plan-*.json"))


def test_the_files_are_what_the_types_say() -> None:
    spec = importlib.util.spec_from_file_location("make_schemas", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.texts().items():
        assert (module.DIRECTORY / name).read_text() == text, "run `make golden`"


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_golden_plan_fits(plan: Path) -> None:
    validate(json.loads(plan.read_text()), "run-plan")


def test_a_request_with_everything_fits() -> None:
    full = RunRequest(("true",), "/r", user="a", ulimits=("nofile=1",), oom_score_adj=5)
    validate(full.to_json())
    validate({"args": ["x"], "rootfs": "/r", "image": {"env": ["A=1"]}, "uid_map": []})


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ([], "request"),
        ({"args": [], "rootfs": "/r"}, "request.args"),
        ({"args": ["x"], "rootfs": "r"}, "request.rootfs"),
        ({"args": ["x"]}, "'rootfs' is a required property"),
        ({"args": ["x"], "rootfs": "/r", "usr": ""}, "usr"),
        ({"args": ["x", 1], "rootfs": "/r"}, "request.args[1]"),
        ({"args": ["x"], "rootfs": "/r", "uid_map": [{"container_id": "0"}]}, "request.uid_map[0]"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(data: object, place: str) -> None:
    with pytest.raises(RequestError) as caught:
        validate(data)
    assert place in str(caught.value)
