"""``buildfront load``."""

from __future__ import annotations

import sys

import click

import buildfront
from buildfront import BuildError, visible

from .program import Program


@click.command("load")
@click.option("-i", "--input", "path", default="-", metavar="FILE", help="the archive or layout; - is stdin")
@click.option("-t", "--tag", "names", multiple=True, metavar="NAME[:TAG]", help="name it so (repeats)")
@click.option("--platform", default="", metavar="OS/ARCH", help="which image of an index")
@click.pass_obj
def load_command(program: Program, path: str, names: tuple[str, ...], platform: str) -> None:
    """Load an OCI or docker archive, or an image layout directory."""
    if path == "-" and sys.stdin.isatty():
        raise BuildError("load reads the archive from stdin, and that is a terminal", hint="use -i FILE")
    source = sys.stdin.buffer if path == "-" else path
    for name in buildfront.load(source, names=names, platform=platform, root=program.root):
        click.echo(f"loaded {visible(name)}")
