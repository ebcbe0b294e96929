"""What the commands that unpack or run something start with, for an ordinary user."""

from __future__ import annotations

import click


def become_root(root: str | None) -> None:
    """Enter a user namespace where the caller is an ordinary user, or root that may not mount, and say what can't work
    in it.

    The process must have one thread still. Raises BuildError where the kernel allows none, and for a store that others
    could change: who owns what is on the way to it can be told only here outside.
    """
    from run_step import needs_user_namespace

    if not needs_user_namespace():
        return
    from ..build import enter_user_namespace
    from ..store.location import check, default_root

    check(root or default_root())

    for warning in enter_user_namespace():
        click.echo(f"warning: {warning}", err=True)
