"""``--name=value`` in front of an instruction's arguments."""

from __future__ import annotations

import re

from ..errors import BuildError, nearest

_SPACE = re.compile(r"\s+")

LATER = {
    "RUN": ("security", "device"),
    "COPY": ("parents", "exclude"),
    "ADD": ("keep-git-dir", "checksum", "unpack", "exclude"),
}
"""Flags of the reference that this version refuses by name."""


def take(
    rest: str,
    known: tuple[str, ...],
    instruction: str,
    escape: str,
    repeated: dict[str, list[str]] | None = None,
) -> tuple[dict[str, str], str]:
    """Return the leading flags and the text after them.

    A flag that is a key of ``repeated`` may be given several times; its values are appended there. Raises BuildError
    for an unknown, repeated or malformed flag.
    """
    many = repeated or {}
    known = (*known, *many)
    found: dict[str, str] = {}
    at = 0  # a place, not the rest: a line may have any number of flags
    while rest.startswith("--", at):
        word, at = _first(rest, at, escape)
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        if name in LATER.get(instruction, ()):
            raise BuildError(
                f"{instruction} --{name} is not supported yet", hint="it comes in a later version"
            )
        if name not in known:
            shown = nearest("--" + name, tuple("--" + item for item in known))
            raise BuildError(f"unknown flag --{name} for {instruction}", hint=shown or _known(known))
        if name == "link" and not equals:
            value = "true"
        elif not equals or not value:
            raise BuildError(f"{instruction} {word}: the flag needs a value", hint=f"write --{name}=VALUE")
        if name in many:
            many[name].append(value)
            continue
        if name in found:
            raise BuildError(f"{instruction} --{name} is given twice")
        found[name] = value
    return found, rest[at:]


def _first(rest: str, at: int, escape: str) -> tuple[str, int]:
    """Return the word at this place without its quotes and escapes, and the place of the next one.

    Variables stay as they are.
    """
    word: list[str] = []
    quote = ""
    while at < len(rest):
        char = rest[at]
        if not quote and char.isspace():
            break
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == escape and quote != "'" and at + 1 < len(rest):
            at += 1
            word.append(rest[at])
        else:
            word.append(char)
        at += 1
    if quote:
        raise BuildError(f"a closing {quote} is missing in {rest!r}")
    space = _SPACE.match(rest, at)
    return "".join(word), space.end() if space is not None else at


def _known(known: tuple[str, ...]) -> str:
    return "known are " + ", ".join("--" + item for item in known) if known else "it takes no flags"
