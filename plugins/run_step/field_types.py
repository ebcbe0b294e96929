"""The types of a request's fields, checked when an object is made.

So ``args="id"`` is refused where it is written: as a sequence of letters it would only fail when it is executed.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from functools import cache
from typing import Any

from .documents import short
from .errors import RequestError

_SCALARS = (str, int, bool, float, bytes, types.NoneType)
_MISSING = object()


class Typed:
    """A base for frozen dataclasses whose fields are scalars, other such dataclasses, or tuples of these.

    A list is taken where a tuple is wanted, and becomes one. Raises RequestError that names the field for any other
    value whose type is not the field's. A subclass may have fields of other types, which are not checked.
    """

    def __post_init__(self) -> None:
        cls: type = type(self)
        for name, default, kinds, inner in _fields(cls):
            value: Any = getattr(self, name, _MISSING)
            if value is default or value is _MISSING:  # as nearly all of a request's fields are; or set later
                continue
            if type(value) not in kinds:
                value = _accept(self, name, value, kinds, inner)
            if inner is None:
                continue
            for index, item in enumerate(value):
                if type(item) is not inner and not _is(item, inner):
                    place = f"{type(self).__name__}.{name}[{index}]"
                    raise RequestError(f"{place}: {inner.__name__} is wanted, not {short(item)}")


@cache
def _fields(cls: type) -> tuple[tuple[str, object, frozenset[type], type | None], ...]:
    """Return of each field its name, its default, the types that it may have, and the type of what a tuple holds.

    Fields whose hints are not understood are left out.
    """
    out = []
    for field in dataclasses.fields(cls):
        hint = _hint(cls, field.name)
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis and _is_known(arguments[0]):
                out.append((field.name, field.default, frozenset((tuple,)), arguments[0]))
            continue
        is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
        kinds = arguments if is_union else (hint,)
        if all(map(_is_known, kinds)):
            out.append((field.name, field.default, frozenset(kinds), None))
    return tuple(out)


def _hint(cls: type, name: str) -> Any:
    """Return the type of a field; Any if its hint can't be evaluated, for example if it names a local class."""
    owner = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
    annotations = {name: inspect.get_annotations(owner)[name]}
    only = type(owner.__name__, (), {"__annotations__": annotations, "__module__": owner.__module__})
    try:
        return typing.get_type_hints(only)[name]
    except Exception:  # noqa: BLE001 - a hint is any expression
        return Any


def _is_known(hint: Any) -> bool:
    return hint in _SCALARS or (isinstance(hint, type) and issubclass(hint, Typed))


def _accept(owner: Typed, name: str, value: object, kinds: frozenset[type], inner: type | None) -> Any:
    """Return a value that is not quite of one of ``kinds``: an object of a subclass, or a list for a tuple."""
    if inner is not None and isinstance(value, list):
        value = tuple(value)
        object.__setattr__(owner, name, value)
        return value
    if any(_is(value, kind) for kind in kinds):
        return value
    if inner is not None:
        wanted = f"a tuple of {inner.__name__}"
    else:
        names = sorted(kind.__name__ for kind in kinds - {types.NoneType})
        wanted = " or ".join([*names, "None"] if types.NoneType in kinds else names)
    raise RequestError(f"{type(owner).__name__}.{name}: {wanted} is wanted, not {short(value)}")


def _is(value: object, kind: type) -> bool:
    """Whether ``value`` is of this type; True and False are not numbers here, and an int is taken for a float."""
    if kind is float and isinstance(value, int):
        kind = int
    return isinstance(value, kind) and not (kind in (int, float) and isinstance(value, bool))
