"""The contract's JSON Schemas, and validation against them. Loads jsonschema, so it is never on a hot path."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

from .errors import RequestError


@lru_cache(maxsize=2)
def schema(name: str) -> dict[str, Any]:
    """``run-request`` or ``run-plan`` as a JSON Schema (draft 2020-12)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema", f"{name}.schema.json")
    with open(path, encoding="utf-8") as stream:
        value: dict[str, Any] = json.load(stream)
        return value


def validate(data: Any, name: str = "run-request") -> None:
    """Raises RequestError with the place of the first thing that does not fit."""
    import jsonschema

    found = jsonschema.Draft202012Validator(schema(name)).iter_errors(data)
    error = jsonschema.exceptions.best_match(found)
    if error is not None:
        place = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in error.absolute_path)
        raise RequestError(f"{name.removeprefix('run-')}{place}: {error.message}")
