"""The types of a request's fields, checked when an object is made.

So ``args="id"`` is refused where it is written: as a sequence of letters it would only fail when it is executed.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Any

from .documents import short
from .errors import RequestError


class Typed:
    """A base for frozen dataclasses whose fields are scalars, other such dataclasses, or tuples of these.

    A list is taken where a tuple is wanted, and becomes one. Raises RequestError that names the field for any other
    value whose type is not the field's.
    """

    def __post_init__(self) -> None:
        values = self.__dict__
        cls: type = type(self)
        for name, default, kinds, inner in _fields(cls):
            value = values[name]
            if value is default:  # as nearly all of a request's fields are
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
    """Return of each field its name, its default, the types that it may have, and the type of what a tuple holds."""
    hints = typing.get_type_hints(cls)
    out = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kinds, inner = frozenset((hint,)), None
        if typing.get_origin(hint) is tuple:
            kinds, inner = frozenset((tuple,)), typing.get_args(hint)[0]
        elif isinstance(hint, types.UnionType):
            kinds = frozenset(typing.get_args(hint))
        out.append((field.name, field.default, kinds, inner))
    return tuple(out)


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
    """Whether ``value`` is of this type; True and False are not numbers here."""
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
