"""``buildfront info`` and ``prune``."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from ..sizes import decimal_size
from ..text import visible
from .image_commands import check_format, print_table
from .user_namespace import become_root


@click.command("info")
@click.option("--format", "form", default="table", metavar="[table|json]", help="how to print it")
@click.pass_obj
def info_command(root: str | None, form: str) -> None:
    """Print what the store holds, its cache mounts one by one."""
    from ..store.prune import info

    check_format(form)
    become_root(root)  # an ordinary user's caches hold files of other users of its namespace
    found = info(root)
    if form == "json":
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"version    {found['version']}")
    click.echo(f"store      {visible(found['root'])}")
    snapshots = found["snapshots"]
    click.echo(f"snapshots  {snapshots['count']} ({snapshots['driver'] or 'none yet'})")
    click.echo(f"images     {found['images']}")
    click.echo(f"blobs      {found['blobs']['count']}, {decimal_size(found['blobs']['size'])}")
    mounts = found["cache_mounts"]
    click.echo(f"caches     {len(mounts)}, {decimal_size(sum(item['size'] for item in mounts))}")
    if not mounts:
        return
    table: list[tuple[str, ...]] = [("CACHE MOUNT", "SIZE", "LAST USED", "IN USE")]
    for item in mounts:
        used = item["last_used"][:19].replace("T", " ")
        table.append(
            (visible(item["id"]), decimal_size(item["size"]), used, "yes" if item["in_use"] else "no")
        )
    click.echo()
    print_table(table)


@click.command("prune")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="id=ID, until=24h (repeats)")
@click.option("-f", "--force", is_flag=True, help="do not ask")
@click.option("--format", "form", default="table", metavar="[table|json]", help="how to print what went")
@click.pass_obj
def prune_command(root: str | None, filters: tuple[str, ...], force: bool, form: str) -> None:
    """Remove cache mounts that no build uses now. On a terminal it asks first."""
    from ..store.prune import parse_filters, prune

    check_format(form)
    parse_filters(filters)
    if not force and sys.stdin.isatty():
        click.confirm("Remove the cache mounts that no build uses now?", abort=True, err=True)
    become_root(root)
    removed = prune(filters, root)
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(item) for item in removed], indent=2))
        return
    for item in removed:
        click.echo(f"{visible(item.id)}  {decimal_size(item.size)}")
    click.echo(f"removed {len(removed)}, {decimal_size(sum(item.size for item in removed))}", err=True)
