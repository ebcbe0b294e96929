"""Frozen dataclasses to JSON values and back, by their type hints.

Meant for the request, the host facts and the plan, which are trees of dataclasses, tuples, typed dictionaries and
scalars. It is not a general serialiser: a type that these do not use is refused when the class is first decoded.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from .documents import short
from .errors import RequestError

T = TypeVar("T")


def encode(value: Any, *, defaults: bool = True) -> Any:
    """Return the JSON value of a dataclass tree; with ``defaults=False`` fields at their default are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out = {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if not defaults and field.default is not dataclasses.MISSING and item == field.default:
                continue
            out[field.name] = encode(item, defaults=defaults)
        return out
    if isinstance(value, tuple | list):
        return [encode(item, defaults=defaults) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item, defaults=defaults) for key, item in value.items()}
    return value


def decode(cls: type[T], data: Any, where: str = "request") -> T:
    """Build ``cls``, a dataclass or a TypedDict, from a JSON value.

    A TypedDict's fields are checked and returned as they are, those that it does not list too. Raises RequestError
    naming the place: an unknown field, a missing one, a value of the wrong type.
    """
    return typing.cast(T, _decode(cls, data, where))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(hint: Any, data: Any, where: str) -> Any:
    if hint is Any:
        return data
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _decode(inner[0], data, where)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise RequestError(f"{where}: a list is wanted, not {short(data)}")
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, value, f"{where}[{index}]") for index, value in enumerate(data))
    if origin is list:
        if not isinstance(data, list):
            raise RequestError(f"{where}: a list is wanted, not {short(data)}")
        item = typing.get_args(hint)[0]
        return [_decode(item, value, f"{where}[{index}]") for index, value in enumerate(data)]
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if not isinstance(data, str | int) or data not in allowed:
            raise RequestError(f"{where}: {short(data)} is not one of {', '.join(map(str, allowed))}")
        return data
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            raise RequestError(f"{where}: an object is wanted, not {short(data)}")
        value_hint = typing.get_args(hint)[1]
        return {str(key): _decode(value_hint, value, f"{where}.{key}") for key, value in data.items()}
    if typing.is_typeddict(hint):
        return _decode_typed_dict(hint, data, where)
    if dataclasses.is_dataclass(hint):
        return _decode_class(typing.cast(type, hint), data, where)
    if hint is bool or hint is str or hint is int:
        if not isinstance(data, hint) or (hint is int and isinstance(data, bool)):
            raise RequestError(f"{where}: {hint.__name__} is wanted, not {short(data)}")
        return data
    raise TypeError(f"no way to decode {hint!r} at {where}")


def _decode_typed_dict(cls: Any, data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise RequestError(f"{where}: an object is wanted, not {short(data)}")
    for name in sorted(cls.__required_keys__):
        if name not in data:
            raise RequestError(f"{where}: the field {name!r} is missing")
    hints = _hints(cls)
    return {
        name: _decode(hints[name], value, f"{where}.{name}") if name in hints else value
        for name, value in data.items()
    }


def _decode_class(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise RequestError(f"{where}: an object is wanted, not {short(data)}")
    hints = _hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0][:100], hints, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RequestError(f"{where}: unknown field {short(unknown[0])}{hint}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise RequestError(f"{where}: the field {name!r} is missing")
    return cls(**{name: _decode(hints[name], value, f"{where}.{name}") for name, value in data.items()})
