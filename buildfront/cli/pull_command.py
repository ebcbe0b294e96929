"""``buildfront pull``."""

from __future__ import annotations

import click

import buildfront
from buildfront import visible

from .program import Program


@click.command("pull")
@click.argument("name")
@click.option("--platform", default="", metavar="OS/ARCH", help="which image of an index")
@click.pass_obj
def pull_command(program: Program, name: str, platform: str) -> None:
    """Pull an image from a registry."""

    def report(text: str) -> None:
        click.echo(visible(text), err=True)

    click.echo(buildfront.pull(name, platform=platform, report=report, root=program.root))
