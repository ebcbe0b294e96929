"""Tables and formats of the commands that list something."""

from __future__ import annotations

import click

from buildfront import BuildError


def short_time(stamp: str) -> str:
    """Return an RFC 3339 time to the second, without its zone."""
    return stamp[:19].replace("T", " ")


def check_format(form: str, known: tuple[str, ...] = ("table", "json")) -> None:
    """Raise BuildError where ``form`` is not one of the known ones."""
    if form not in known:
        raise BuildError(f"unknown format {form!r}", hint=f"known are {', '.join(known)}", status=2)


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print columns that are as wide as their longest cell. The first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for line in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
