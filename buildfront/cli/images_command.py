"""``buildfront images``."""

from __future__ import annotations

import dataclasses
import json

import click

import buildfront
from buildfront import decimal_size, visible

from .program import Program
from .tables import check_format, print_table, short_time


@click.command("images")
@click.option("--format", "form", default="table", metavar="[table|json]", help="how to print it")
@click.option("-q", "--quiet", is_flag=True, help="print only image IDs")
@click.pass_obj
def images_command(program: Program, form: str, quiet: bool) -> None:
    """List the images of the store."""
    check_format(form)
    rows = buildfront.images(program.root)
    if quiet:
        for image_id in dict.fromkeys(row.image_id for row in rows if row.image_id):
            click.echo(image_id)
        return
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    table: list[tuple[str, ...]] = [("NAME", "IMAGE ID", "CREATED", "SIZE", "PLATFORM")]
    for row in rows:
        name = row.familiar_name or "<none>"
        if row.problem:
            table.append((visible(name), "<damaged>", "", "", ""))
            continue
        cells = name, row.image_id[7:19], short_time(row.created), decimal_size(row.size), row.platform
        table.append(tuple(map(visible, cells)))
    print_table(table)
    for row in rows:
        if row.problem:
            click.echo(visible(f"warning: {row.name or row.digest}: {row.problem}"), err=True)
