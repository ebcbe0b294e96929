"""Write the JSON Schemas of the plugin's contract from its types: ``make golden`` runs it, a test compares.

The descriptions are the first sentences of the classes' docstrings. draft 2020-12.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from run_step import planning
from run_step.request import RunRequest

DIRECTORY = Path(planning.__file__).parent / "schema"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type hint; dataclasses become definitions."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of(item, definitions) for item in typing.get_args(hint)]}
    if origin is tuple:
        return {"type": "array", "items": of(typing.get_args(hint)[0], definitions)}
    if origin is dict:
        return {"type": "object"}
    if dataclasses.is_dataclass(hint):
        cls = typing.cast(type, hint)
        if cls.__name__ not in definitions:
            definitions[cls.__name__] = {}
            definitions[cls.__name__] = of_class(cls, definitions)
        return {"$ref": f"#/$defs/{cls.__name__}"}
    return {"type": {str: "string", int: "integer", bool: "boolean", type(None): "null"}[hint]}


def of_class(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """An object with no other fields than the class's."""
    hints = typing.get_type_hints(cls)
    required = [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    out: dict[str, Any] = {
        "description": " ".join((cls.__doc__ or "").split("\n\n")[0].split()),
        "type": "object",
        "additionalProperties": False,
        "properties": {field.name: of(hints[field.name], definitions) for field in dataclasses.fields(cls)},
    }
    return {**out, "required": required} if required else out


def request_schema() -> dict[str, Any]:
    """Of a RunRequest's JSON."""
    definitions: dict[str, Any] = {}
    schema = of_class(RunRequest, definitions)
    schema["properties"]["args"]["minItems"] = 1
    schema["properties"]["rootfs"]["pattern"] = "^/"
    return {"$schema": DIALECT, "title": "RunRequest", **schema, "$defs": definitions}


def plan_schema() -> dict[str, Any]:
    """Of what ``RunPlan.to_json`` gives; ``spec`` is an OCI runtime configuration."""
    definitions: dict[str, Any] = {}
    schema = of_class(planning.RunPlan, definitions)
    for action in typing.get_args(planning.Action):
        definition = definitions[action.__name__]
        definition["properties"] = {"do": {"const": action.__name__}, **definition["properties"]}
        definition["required"] = ["do", *definition["required"]]
    return {"$schema": DIALECT, "title": "RunPlan", **schema, "$defs": definitions}


def texts() -> dict[str, str]:
    """File names and their content."""
    schemas = {"run-request.schema.json": request_schema(), "run-plan.schema.json": plan_schema()}
    return {name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in texts().items():
        (DIRECTORY / name).write_text(text)
