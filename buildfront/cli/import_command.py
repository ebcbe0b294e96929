"""``buildfront import``."""

from __future__ import annotations

import click

import buildfront

from .program import Program


@click.command("import")
@click.argument("path", metavar="ROOTFS.tar")
@click.option("-t", "--tag", "name", required=True, metavar="NAME[:TAG]", help="what the image is called")
@click.option("--platform", default="", metavar="OS/ARCH", help="the platform of the root filesystem")
@click.option("-m", "--message", default="", help="the comment in the image's history")
@click.pass_obj
def import_command(program: Program, path: str, name: str, platform: str, message: str) -> None:
    """Make an image of one layer from a tar of a root filesystem."""
    click.echo(buildfront.import_rootfs(path, name, platform=platform, message=message, root=program.root))
