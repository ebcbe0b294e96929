"""``buildfront check``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

import buildfront
from buildfront import BuildError

from .option_groups import GroupedCommand, of_text, option, text_options
from .program import Program
from .tables import check_format

if TYPE_CHECKING:
    from buildfront import BuildOptions, CheckReport

_FORMATS = ("text", "json", "sarif", "github")
_FIXES = ("safe", "unsafe")


@click.command("check", cls=GroupedCommand)
@of_text
@option(
    "Output", "--format", "form", default="text", metavar="[text|json|sarif|github]", help="how to print it"
)
@option("Output", "-o", "--output", default="", metavar="FILE", help="write the findings there")
@option("Other", "--skip", multiple=True, metavar="RULE", help="switch a rule off, or all (repeats)")
@option(
    "Other",
    "--enable",
    multiple=True,
    metavar="RULE",
    help="switch a rule on that is off by default, or buildfront/all, or all (repeats)",
)
@option(
    "Other",
    "--error",
    "errors",
    multiple=True,
    is_flag=False,
    flag_value="all",
    metavar="[=RULE]",
    help="exit with 1 for every finding, or those of a rule (repeats)",
)
@option(
    "Other",
    "--fix",
    is_flag=False,
    flag_value="safe",
    default="",
    metavar="[=unsafe]",
    help="mend the Dockerfile; unsafe makes changes of the image, too",
)
@option("Other", "--diff", is_flag=True, help="print what --fix would change, and change nothing")
@click.pass_obj
def check_command(program: Program, /, **values: Any) -> int:
    """Check the Dockerfile of CONTEXT. Exit with 1 if a finding is an error, or if it can't be built."""
    check_format(values["form"], _FORMATS)
    fix = values["fix"] or ("safe" if values["diff"] else "")
    if fix and fix not in _FIXES:
        raise BuildError(f"--fix={fix}: known are safe and unsafe", status=2)
    options = text_options(values, program.root)
    report = _check(options, values)
    if values["diff"]:
        text = report.diff(unsafe=fix == "unsafe")
        if not values["output"] and sys.stdout.isatty():
            text = "".join(buildfront.visible(line, len(line), keep="\t\n") for line in text.splitlines(True))
    else:
        if fix and report.error is None and report.write_fixes(unsafe=fix == "unsafe"):
            click.echo(f"{buildfront.visible(report.path)} is mended", err=True)
            report = _check(options, values)
        text = report.render(values["form"])
    if values["output"]:
        _write(values["output"], text)
    else:
        click.echo(_bytes(text), nl=False)
    return 1 if report.failed else 0


def _check(options: BuildOptions, values: dict[str, Any]) -> CheckReport:
    return buildfront.check(
        options,
        skip=_names(values["skip"]),
        enable=_names(values["enable"]),
        errors=_names(values["errors"]),
    )


def _names(texts: tuple[str, ...]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",")]


def _bytes(text: str) -> bytes:
    """Return the bytes of a text; those of the Dockerfile that are not UTF-8 are as they were."""
    return text.encode("utf-8", "surrogateescape")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "wb") as stream:
            stream.write(_bytes(text))
    except OSError as error:
        raise BuildError(f"{path} can't be written: {error.strerror}") from None
