"""``--name=value`` in front of an instruction's arguments."""

from __future__ import annotations

from ..errors import BuildError, nearest
from . import words

LATER = {
    "RUN": ("mount", "security", "device"),
    "COPY": ("parents", "exclude"),
    "ADD": ("keep-git-dir", "checksum", "unpack", "exclude"),
}
"""Flags of the reference that this version refuses by name."""


def take(rest: str, known: tuple[str, ...], instruction: str, escape: str) -> tuple[dict[str, str], str]:
    """The leading flags and what follows them. Raises BuildError for an unknown, repeated or malformed one."""
    found: dict[str, str] = {}
    while rest.startswith("--"):
        word = words.split(rest.split("\n", 1)[0], escape)[0] if rest.strip() else ""
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
        if name in found:
            raise BuildError(f"{instruction} --{name} is given twice")
        found[name] = value
        rest = rest[len(word) :].lstrip()
    return found, rest


def _known(known: tuple[str, ...]) -> str:
    return "known are " + ", ".join("--" + item for item in known) if known else "it takes no flags"
