"""``buildfront info``."""

from __future__ import annotations

import json

import click

import buildfront
from buildfront import decimal_size, visible

from .program import Program
from .tables import check_format, print_table, short_time


@click.command("info")
@click.option("--format", "form", default="table", metavar="[table|json]", help="how to print it")
@click.pass_obj
def info_command(program: Program, form: str) -> None:
    """Print what the store holds, its cache mounts one by one."""
    check_format(form)
    program.become_root()  # an ordinary user's caches hold files of other users of its namespace
    found = buildfront.info(program.root)
    if form == "json":
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    mounts = found.cache_mounts
    click.echo(f"version    {found.version}")
    click.echo(f"store      {visible(found.root)}")
    click.echo(f"snapshots  {found.snapshots} ({found.snapshot_driver or 'none yet'})")
    click.echo(f"images     {found.images}")
    click.echo(f"blobs      {found.blobs}, {decimal_size(found.blob_bytes)}")
    click.echo(f"caches     {len(mounts)}, {decimal_size(sum(mount.size for mount in mounts))}")
    if not mounts:
        return
    table: list[tuple[str, ...]] = [("CACHE MOUNT", "SIZE", "LAST USED", "IN USE")]
    for mount in mounts:
        used = "yes" if mount.in_use else "no"
        table.append((visible(mount.id), decimal_size(mount.size), short_time(mount.last_used), used))
    click.echo()
    print_table(table)
