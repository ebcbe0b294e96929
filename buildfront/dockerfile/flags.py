"""``--name=value`` in front of an instruction's arguments."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BuildError, nearest

MOST = 1000
"""How often a flag that may be repeated can be given."""


class Flags:
    """The flags that were given, each with its value or values."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}
        self._truths: dict[str, bool] = {}

    def text(self, name: str, default: str = "") -> str:
        """Return the value of a flag that is given once."""
        return self._texts.get(name, default)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the values of a flag that may be repeated."""
        return tuple(self._lists.get(name, ()))

    def truth(self, name: str) -> bool | None:
        """Return the value of a boolean flag; None where it was not given."""
        return self._truths.get(name)


def take(
    given: Sequence[str],
    instruction: str,
    known: tuple[str, ...] = (),
    *,
    booleans: tuple[str, ...] = (),
    repeated: tuple[str, ...] = (),
) -> Flags:
    """Return the flags of an instruction.

    ``known`` take a value, ``booleans`` need none, ``repeated`` may be given several times. Raises BuildError for an
    unknown flag, for one that is given twice, and for one with a wrong value or none.
    """
    found = Flags()
    seen: set[str] = set()
    for word in given:
        name, equals, value = word[2:].partition("=")
        flag = f"--{name}"
        if name not in (*known, *booleans, *repeated):
            raise _unknown(flag, word, instruction, (*known, *booleans, *repeated))
        if name in seen and name not in repeated:
            raise BuildError(f"{instruction} {flag} is given twice", about=flag)
        seen.add(name)
        if name in booleans:
            if (equals and not value) or value.lower() not in ("", "true", "false"):
                raise BuildError(f"{instruction} {word}: it is true or false", about=flag)
            found._truths[name] = value.lower() != "false"
        elif not equals:
            raise BuildError(
                f"{instruction} {word}: the flag needs a value", hint=f"write {flag}=VALUE", about=flag
            )
        elif name in repeated:
            values = found._lists.setdefault(name, [])
            values.append(value)
            if len(values) > MOST:
                raise BuildError(f"{instruction} has more than {MOST} of {flag}")
        else:
            found._texts[name] = value
    return found


def _unknown(flag: str, word: str, instruction: str, known: tuple[str, ...]) -> BuildError:
    names = tuple(f"--{item}" for item in known)
    hint = nearest(flag, names) or (f"known are {', '.join(names)}" if names else "it takes no flags")
    return BuildError(f"unknown flag {flag} for {instruction}", hint=hint, about=flag)
