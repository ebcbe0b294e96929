"""``buildfront inspect``."""

from __future__ import annotations

import json

import click

import buildfront

from .program import Program


@click.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def inspect_command(program: Program, names: tuple[str, ...]) -> None:
    """Print manifest and config of images as a JSON list."""
    click.echo(json.dumps([buildfront.inspect(name, program.root) for name in names], indent=2))
