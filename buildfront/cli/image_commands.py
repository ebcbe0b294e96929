"""``buildfront images``, ``inspect`` and ``tag``."""

from __future__ import annotations

import dataclasses
import json

import click

from ..errors import BuildError
from ..sizes import decimal_size
from ..text import visible


def check_format(form: str) -> None:
    """Raises BuildError for another than ``table`` and ``json``."""
    if form not in ("table", "json"):
        raise BuildError(f"unknown format {form!r}", hint="known are table, json", status=2)


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as their longest cell; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for line in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@click.command("images")
@click.option("--format", "form", default="table", metavar="[table|json]", help="how to print it")
@click.option("-q", "--quiet", is_flag=True, help="print image IDs alone")
@click.pass_obj
def images_command(root: str | None, form: str, quiet: bool) -> None:
    """List the images of the store."""
    from ..build import images
    from ..image.reference import parse

    check_format(form)
    rows = images(root)
    if quiet:
        for image_id in dict.fromkeys(row.image_id for row in rows if row.image_id):
            click.echo(image_id)
        return
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    table: list[tuple[str, ...]] = [("NAME", "IMAGE ID", "CREATED", "SIZE", "PLATFORM")]
    for row in rows:
        name = parse(row.name).familiar if row.name else "<none>"
        created = row.created[:19].replace("T", " ")
        if row.problem:
            table.append((visible(name), "<damaged>", "", "", ""))
            continue
        cells = name, row.image_id[7:19], created, decimal_size(row.size), row.platform
        table.append(tuple(map(visible, cells)))
    print_table(table)
    for row in rows:
        if row.problem:
            click.echo(visible(f"warning: {row.name or row.digest}: {row.problem}"), err=True)


@click.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def inspect_command(root: str | None, names: tuple[str, ...]) -> None:
    """Print manifest and config of images as a JSON list."""
    from ..build import inspect

    click.echo(json.dumps([inspect(name, root) for name in names], indent=2))


@click.command("tag")
@click.argument("name")
@click.argument("new")
@click.pass_obj
def tag_command(root: str | None, name: str, new: str) -> None:
    """Give the image NAME the name NEW as well."""
    from ..build import tag

    tag(name, new, root)
