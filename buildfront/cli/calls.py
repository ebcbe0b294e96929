"""``buildfront build --call`` and ``--check``: what docker buildx answers about a Dockerfile, without a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

import buildfront
from buildfront import BuildError

if TYPE_CHECKING:
    from buildfront import BuildOptions, LintFinding

_NAMES = ("build", "check", "outline", "targets")
_MOST_SHOWN = 100
"""The most findings that a build shows at its end."""

_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


class Call(NamedTuple):
    """The value of ``--call``: ``NAME[,format=FORM][,ignorestatus=BOOL]``."""

    name: str = "build"
    form: str = "text"
    ignore_status: bool = False


def parse_call(text: str, *, check: bool = False) -> Call:
    """Return what ``--call`` (or ``--check``) asks for. Raises BuildError with status 2."""
    if check and text:
        raise BuildError(
            "--check is --call=check, and both are given", hint="leave out one of them", status=2
        )
    name, form, ignore = "check" if check else "", "text", False
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals and not name:
            name = "check" if part == "lint" else part
        elif key == "format" and value in ("text", "json"):
            form = value
        elif key == "ignorestatus" and value.lower() in _TRUE + _FALSE:
            ignore = value.lower() in _TRUE
        else:
            raise BuildError(
                f"--call={text}: {part!r} is not understood",
                hint="the form is --call=check|outline|targets[,format=text|json][,ignorestatus=true]",
                status=2,
            )
    if (name or "build") not in _NAMES:
        raise BuildError(
            f"--call={text}: unknown call {name!r}", hint=f"known are {', '.join(_NAMES)}", status=2
        )
    return Call(name or "build", form, ignore)


def answer(call: Call, options: BuildOptions) -> int:
    """Print the answer, and return the exit status. Raises BuildError."""
    if call.name == "outline":
        click.echo(buildfront.outline(options).render(call.form), nl=False)
        return 0
    if call.name == "targets":
        click.echo(buildfront.targets(options).render(call.form), nl=False)
        return 0
    report = buildfront.check(options)
    click.echo(report.render(call.form, plain=True), nl=False)
    if report.error is not None:
        raise report.error
    return 1 if report.findings and not call.ignore_status else 0


def warnings_text(findings: tuple[LintFinding, ...]) -> str:
    """Return the lines that end a build, as docker buildx prints them; empty where there is no finding."""
    if not findings:
        return ""
    count = "1 warning found" if len(findings) == 1 else f"{len(findings)} warnings found"
    lines = [
        f" - {item.rule}: {buildfront.visible(item.message)} (line {item.where.start})" for item in findings
    ]
    more = [f" - and {len(findings) - _MOST_SHOWN} more"] if len(findings) > _MOST_SHOWN else []
    return "\n".join(["", f" {count} (use --check to expand):", *lines[:_MOST_SHOWN], *more, ""])
