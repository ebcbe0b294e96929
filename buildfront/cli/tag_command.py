"""``buildfront tag``."""

from __future__ import annotations

import click

import buildfront

from .program import Program


@click.command("tag")
@click.argument("name")
@click.argument("new")
@click.pass_obj
def tag_command(program: Program, name: str, new: str) -> None:
    """Give the image NAME the name NEW as well."""
    buildfront.tag(name, new, program.root)
