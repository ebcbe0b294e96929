"""``RUN --mount=type=…,key=value``: its keys and values. The graph replaces variables."""

from __future__ import annotations

import re

from run_step import RequestError, parse_size, split_values

from ..errors import BuildError, nearest
from .instructions import MountFlag

KEYS: dict[str, tuple[str, ...]] = {
    "bind": ("target", "source", "from", "readonly", "readwrite", "relabel", "id", "env"),
    "cache": (
        "target",
        "id",
        "sharing",
        "from",
        "source",
        "readonly",
        "readwrite",
        "mode",
        "uid",
        "gid",
        "relabel",
        "env",
    ),
    "tmpfs": ("target", "size", "readonly", "readwrite", "id", "env"),
    "secret": ("id", "source", "target", "env", "required", "mode", "uid", "gid", "readonly", "readwrite"),
    "ssh": ("id", "target", "required", "mode", "uid", "gid", "readonly", "readwrite", "env"),
}
"""The keys of each type, by their first names (Dockerfile reference, "RUN --mount").

``relabel``, ``z`` and ``Z`` are podman's: they are for files of the host, and these mounts come from the store, so they
change nothing. As in BuildKit, a key may be given twice and the last one counts, a secret's ``source`` is its id,
secrets are always read-only, and some keys are taken where they mean nothing.
"""

SHARING = ("shared", "private", "locked")
"""From the loosest to the strictest."""

_NO_VALUE = "\0"
"""Stands at the end of a key that was written without an equals sign."""

_SPELLINGS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_BOOLEANS = ("readonly", "readwrite", "required")
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")
_OPPOSITES = {"readonly": "readwrite", "readwrite": "readonly"}


def parse(text: str) -> MountFlag:
    """Return the flag of one ``--mount`` value, its values as written.

    As in BuildKit the rest is checked only when the stage is built, see :func:`checked_kind`. Raises BuildError for a
    text that is not CSV, and for ``from`` with a variable: the graph needs to know it before variables are replaced.
    """
    fields: dict[str, str] = {}
    for item in _split(text):
        given, equals, value = ("relabel", "=", item) if item in ("z", "Z") else item.partition("=")
        key = _SPELLINGS.get(given.lower(), given.lower())
        if not equals and key in _BOOLEANS:
            value = "true"
        elif not equals:
            key += _NO_VALUE
        for other in (key, _OPPOSITES.get(key, "")):
            fields.pop(other, None)  # the last one counts
        fields[key] = value
        if key == "from" and "$" in value[:-1]:
            raise BuildError(
                f"RUN --mount={text}: from takes no variable",
                hint="name a stage there that says FROM with the variable: FROM ${IMAGE} AS tools",
                about=item,
            )
    kind = fields.pop("type", "bind")
    return MountFlag(text, kind if "$" in kind else kind.lower(), tuple(fields.items()))


def checked_kind(text: str, kind: str, keys: tuple[str, ...]) -> str:
    """Return the type of a mount in lower case; ``kind`` and ``keys`` are those of its flag.

    Raises BuildError for an unknown type, for a key that the type lacks, and for one that was written without a value.
    """
    kind = kind.lower()
    if kind not in KEYS:
        shown = nearest(kind, tuple(KEYS)) or f"known are {', '.join(KEYS)}"
        raise BuildError(f"RUN --mount={text}: unknown type {kind!r}", hint=shown, about=text)
    for key in keys:
        if key.endswith(_NO_VALUE):
            key = key.removesuffix(_NO_VALUE)
            raise BuildError(
                f"RUN --mount={text}: {key} needs a value", hint=f"write {key}=VALUE", about=text
            )
        if key not in KEYS[kind]:
            known = nearest(key, KEYS[kind]) or f"type={kind} takes {', '.join(KEYS[kind])}"
            raise BuildError(
                f"RUN --mount={text}: unknown key {key!r} for type={kind}", hint=known, about=text
            )
    return kind


def _split(text: str) -> list[str]:
    """Return the parts of one line of CSV: a part that contains a comma stands in double quotes."""
    if not text:
        return []
    try:
        return split_values(text)
    except RequestError as error:
        raise BuildError(f"RUN --mount={error}") from None


def flag(text: str, key: str, value: str) -> bool:
    """Return a truth value. Raises BuildError."""
    if value.lower() not in (*_TRUE, *_FALSE):
        raise BuildError(f"RUN --mount={text}: {key}={value} is neither true nor false")
    return value.lower() in _TRUE


def number(text: str, key: str, value: str) -> int:
    """Return a user or group ID. Raises BuildError."""
    # No number of more digits can be one; Python refuses to read a very long one.
    if not re.fullmatch(r"0*[0-9]{1,10}", value, re.ASCII) or int(value.lstrip("0") or "0") >= (1 << 32) - 1:
        raise BuildError(
            f"RUN --mount={text}: {key}={value}: a number is wanted", hint="names are not looked up"
        )
    return int(value.lstrip("0") or "0")


def mode(text: str, value: str) -> int:
    """Return permission bits written in octal. Raises BuildError."""
    if not re.fullmatch(r"(0o?)?[0-7]{1,4}", value, re.ASCII):
        raise BuildError(f"RUN --mount={text}: mode={value}: an octal mode is wanted, as in mode=0400")
    return int(value.removeprefix("0o"), 8)


def size(text: str, value: str) -> int:
    """Return the number of bytes of ``size=``, as :func:`run_step.parse_size` reads it. Raises BuildError."""
    try:
        return parse_size(value)
    except RequestError:
        raise BuildError(
            f"RUN --mount={text}: size={value}: a number with a unit b, k, m, g, t or p is wanted"
        ) from None
