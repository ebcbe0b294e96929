"""``buildfront doctor``."""

from __future__ import annotations

import json

import click

import buildfront

from .program import Program


@click.command("doctor")
@click.option("--format", "form", default="table", metavar="[table|json]", help="how to print it")
@click.pass_obj
def doctor_command(program: Program, form: str) -> None:
    """Print what this machine can do, row by row, and what would make the rest work."""
    rows = buildfront.doctor(program.root)
    if form == "json":
        click.echo(json.dumps([row._asdict() for row in rows], indent=2))
        return
    width = max(len(row.what) for row in rows)
    for row in rows:
        click.echo(f"{'ok ' if row.ok else 'no '} {row.what.ljust(width)}  {row.detail}")
