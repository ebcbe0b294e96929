"""``RUN --device=NAME[,required]``: the name of a CDI device."""

from __future__ import annotations

from run_step import RequestError, split_values

from ..booleans import parse_bool
from ..errors import BuildError
from .instructions import DeviceFlag


def parse(text: str) -> DeviceFlag:
    """Return the flag of one ``--device`` value. Raises BuildError."""
    try:
        fields = split_values(text) if text else []
    except RequestError as error:
        raise BuildError(f"RUN --device={error}", about=f"--device={text}") from None
    name, required = "", False
    for item in fields:
        key, equals, value = item.partition("=")
        key = key.lower()
        if key == "required":
            truth = parse_bool(value) if equals else True
            if truth is None:
                raise _wrong(text, f"required={value} is neither true nor false")
            required = truth
        elif key == "name" and equals:
            if name:
                raise _wrong(text, f"the name is {name} already")
            name = value
        elif not name:
            name = item  # a name may have an equals sign: vendor.com/class=device
        else:
            raise _wrong(text, f"unknown key {key!r}; known are name, required")
    return DeviceFlag(name, required)


def _wrong(text: str, why: str) -> BuildError:
    return BuildError(f"RUN --device={text}: {why}", about=f"--device={text}")
