"""``buildfront push``."""

from __future__ import annotations

import click

import buildfront
from buildfront import visible

from .program import Program


@click.command("push")
@click.argument("name")
@click.argument("target", default="")
@click.pass_obj
def push_command(program: Program, name: str, target: str) -> None:
    """Push the image NAME, under its own name or as TARGET."""

    def report(text: str) -> None:
        click.echo(visible(text), err=True)

    click.echo(buildfront.push(name, target, report=report, root=program.root))
