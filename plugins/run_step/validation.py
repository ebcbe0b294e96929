"""JSON Schemas of the contract and of the files of others, and validation against them.

Loads jsonschema, so it is never on a hot path.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from itertools import islice
from typing import Any

from .errors import RequestError

_MOST, _LONGEST = 100, 400
"""The number of errors among which the most helpful is looked for, and the characters of it that are shown."""


@lru_cache(maxsize=4)
def schema(name: str) -> dict[str, Any]:
    """Return ``run-request``, ``run-plan``, ``cdi`` or ``oci-hook`` as a JSON Schema (draft 2020-12)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema", f"{name}.schema.json")
    with open(path, encoding="utf-8") as stream:
        value: dict[str, Any] = json.load(stream)
        return value


def problem(data: Any, name: str) -> str:
    """Return the first thing that does not fit, as ``.place[0]: message``; empty if all does."""
    import jsonschema

    found = jsonschema.Draft202012Validator(schema(name)).iter_errors(data)
    error = jsonschema.exceptions.best_match(islice(found, _MOST))
    if error is None:
        return ""
    place = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in error.absolute_path)
    message = error.message if len(error.message) <= _LONGEST else error.message[:_LONGEST] + "…"
    return f"{place[:_LONGEST]}: {message}"


def validate(data: Any, name: str = "run-request") -> None:
    """Raise RequestError with the place of the first thing that does not fit."""
    why = problem(data, name)
    if why:
        raise RequestError(name.removeprefix("run-") + why)
