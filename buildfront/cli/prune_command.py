"""``buildfront prune``."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

import buildfront
from buildfront import decimal_size, visible

from .program import Program
from .tables import check_format


@click.command("prune")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="id=ID, until=24h (repeats)")
@click.option("-f", "--force", is_flag=True, help="do not ask")
@click.option("--format", "form", default="table", metavar="[table|json]", help="how to print what went")
@click.pass_obj
def prune_command(program: Program, filters: tuple[str, ...], force: bool, form: str) -> None:
    """Remove cache mounts that no build uses now. On a terminal it asks first."""
    check_format(form)
    buildfront.parse_prune_filters(filters)  # before the question
    if not force and sys.stdin.isatty():
        click.confirm("Remove the cache mounts that no build uses now?", abort=True, err=True)
    program.become_root()
    removed = buildfront.prune(filters, program.root)
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(mount) for mount in removed], indent=2))
        return
    for mount in removed:
        click.echo(f"{visible(mount.id)}  {decimal_size(mount.size)}")
    click.echo(f"removed {len(removed)}, {decimal_size(sum(mount.size for mount in removed))}", err=True)
