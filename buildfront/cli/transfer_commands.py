"""``buildfront load``, ``import``, ``pull`` and ``push``."""

from __future__ import annotations

import os
import sys

import click

from ..errors import BuildError
from ..text import visible


def _say(text: str) -> None:
    click.echo(visible(text), err=True)


@click.command("load")
@click.option("-i", "--input", "path", default="-", metavar="FILE", help="the archive or layout; - is stdin")
@click.option("-t", "--tag", "names", multiple=True, metavar="NAME[:TAG]", help="name it so (repeats)")
@click.option("--platform", default="", metavar="OS/ARCH", help="which image of an index")
@click.pass_obj
def load_command(root: str | None, path: str, names: tuple[str, ...], platform: str) -> None:
    """Load an OCI or docker archive, or an image layout directory."""
    from ..image.platform import normalise
    from ..image_transfer import load
    from ..store.image_store import Store

    chosen = normalise(platform) if platform else ""
    if path == "-" and sys.stdin.isatty():
        raise BuildError("load reads the archive from stdin, and that is a terminal", hint="use -i FILE")
    with Store(root) as store, store.session() as session:
        if path == "-":
            import shutil

            path = session.place("load")
            with open(path, "xb", opener=_private) as spool:
                shutil.copyfileobj(sys.stdin.buffer, spool, 1 << 20)
        for name in load(store, path, names=names, platform=chosen):
            click.echo(f"loaded {visible(name)}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@click.command("import")
@click.argument("path", metavar="ROOTFS.tar")
@click.option("-t", "--tag", "name", required=True, metavar="NAME[:TAG]", help="what the image is called")
@click.option("--platform", default="", metavar="OS/ARCH", help="the platform of the root filesystem")
@click.option("-m", "--message", default="", help="the comment in the image's history")
@click.pass_obj
def import_command(root: str | None, path: str, name: str, platform: str, message: str) -> None:
    """Make an image of one layer from a tar of a root filesystem."""
    from ..image.platform import normalise
    from ..rootfs_import import import_rootfs
    from ..store.image_store import Store

    with Store(root) as store:
        chosen = normalise(platform) if platform else ""
        click.echo(import_rootfs(store, path, name, platform=chosen, message=message).digest)


@click.command("pull")
@click.argument("name")
@click.option("--platform", default="", metavar="OS/ARCH", help="which image of an index")
@click.pass_obj
def pull_command(root: str | None, name: str, platform: str) -> None:
    """Pull an image from a registry."""
    from ..image.platform import normalise
    from ..image_transfer import pull
    from ..store.image_store import Store

    with Store(root) as store:
        chosen = normalise(platform) if platform else ""
        click.echo(pull(store, name, platform=chosen, report=_say).digest)


@click.command("push")
@click.argument("name")
@click.argument("target", default="")
@click.pass_obj
def push_command(root: str | None, name: str, target: str) -> None:
    """Push the image NAME, under its own name or as TARGET."""
    from ..image_transfer import push
    from ..store.image_store import Store

    with Store(root) as store:
        click.echo(push(store, name, target, report=_say))
