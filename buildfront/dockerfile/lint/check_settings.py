"""What is checked: ``# check=skip=A,B;error=true;experimental=C``, at the top of a file and above an instruction."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ...booleans import parse_bool
from ...errors import BuildError, SourceRange
from .rules import OWN, RULES

ALL = "all"
BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that takes the place of the directive."""

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=")
_DIRECTIVES = ("syntax", "escape", "check")


@dataclass(frozen=True)
class CheckSettings:
    """Which rules are on.

    ``skip`` and ``enable`` have names of rules. ``skip_all`` switches off all rules that are on by default, as in
    BuildKit. ``enable`` with ``all`` means BuildKit's experimental rules, and with ``buildfront/all`` buildfront's.
    ``error`` makes every finding an error.
    """

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    enable: frozenset[str] = frozenset()
    error: bool = False

    def is_on(self, name: str) -> bool:
        """Whether the rule is on."""
        rule = RULES[name]
        if rule.own:
            return (name in self.enable or OWN + ALL in self.enable) and name not in self.skip
        if rule.experimental:
            return name in self.enable or ALL in self.enable
        return not self.skip_all and name not in self.skip

    def with_more(self, other: CheckSettings) -> CheckSettings:
        """Return both together; ``error`` stays as it is."""
        return replace(
            self,
            skip=self.skip | other.skip,
            skip_all=self.skip_all or other.skip_all,
            enable=self.enable | other.enable,
        )

    def above(self, comments: tuple[str, ...]) -> CheckSettings:
        """Return the settings for an instruction with these comments above it.

        The first ``check=`` among them counts. One that is malformed changes nothing, as in BuildKit.
        """
        for comment in comments:
            name, value = _directive(comment)
            if name != "check":
                continue
            try:
                return self.with_more(parse_settings(value))
            except BuildError:
                return self
        return self


def parse_settings(text: str) -> CheckSettings:
    """Return the settings of ``skip=A,B;error=true``. Raises BuildError."""
    text = text.strip()
    out = CheckSettings()
    for part in text.split(";", 2) if text else ():
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in ("skip", "experimental", "error"):
            raise BuildError(
                f"check={text}: {part if not equals else key!r} is not an option of check",
                hint="the form is check=skip=RULE,RULE;error=true, and experimental=RULE switches a rule on",
            )
        names = frozenset(name.strip() for name in value.split(","))
        if key == "error":
            truth = parse_bool(value)
            if truth is None:
                raise BuildError(f"check={text}: error={value} is neither true nor false")
            out = replace(out, error=truth)
        elif key == "skip":
            out = replace(out, skip_all=True) if value == ALL else replace(out, skip=names)
        else:
            out = replace(out, enable=names)
    return out


def check_directive(text: str, file: str) -> tuple[str, SourceRange] | None:
    """Return the value of ``# check=`` among the directives at the top of a Dockerfile, with its place."""
    seen = set()
    lines = text.removeprefix("\ufeff").split("\n", 10)
    for number, line in enumerate(lines, 1):
        if number == 1 and line.startswith("#!"):
            continue
        name, value = _directive(line[1:]) if line.startswith("#") else ("", "")
        if name not in _DIRECTIVES or name in seen:
            return None
        if name == "check":
            return value, SourceRange(file, number, number)
        seen.add(name)
    return None


def _directive(comment: str) -> tuple[str, str]:
    """Return the name of a directive in lower case and the first word of its value; two empty texts for none."""
    text = comment.lstrip()
    match = _DIRECTIVE.match(text)
    value = "" if match is None else text[match.end() :].strip()
    if match is None or not value:
        return "", ""
    return match[1].lower(), value.partition(" ")[0]


def settings_of(text: str, file: str, given: str | None = None) -> CheckSettings:
    """Return the settings of a Dockerfile; ``given``, from the build argument, takes their place.

    Raises BuildError for malformed ones.
    """
    if given is not None:
        try:
            return parse_settings(given)
        except BuildError as error:
            raise BuildError(f"the build argument {BUILD_ARG}: {error.what}", hint=error.hint) from None
    found = check_directive(text, file)
    if found is None:
        return CheckSettings()
    try:
        return parse_settings(found[0])
    except BuildError as error:
        raise error.at(found[1]) from None
