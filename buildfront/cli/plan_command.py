"""``buildfront plan``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import click

from ..errors import BuildError
from .options import GroupedCommand, _option, run_defaults, shared, to_options

FORMATS = ("table", "json", "dot", "mermaid")


@click.command("plan", cls=GroupedCommand)
@shared
@_option(
    "Output", "--format", "form", default="table", metavar="[table|json|dot|mermaid]", help="how to print it"
)
@click.pass_obj
def plan_command(root: str | None, /, **values: Any) -> None:
    """Print the step graph of CONTEXT and which steps the cache holds. Nothing runs."""
    from ..build import plan_cached
    from ..graph import render

    form = values["form"]
    if form not in FORMATS:
        raise BuildError(f"unknown format {form!r}", hint=f"known are {', '.join(FORMATS)}", status=2)
    options = to_options(values, root, run_defaults=run_defaults(values))
    with ExitStack() as stack:
        prepared, notes = plan_cached(options, stack)
        graph = prepared.graph
        if form == "json":
            value = render.to_json(graph)
            for step in value["steps"]:
                step["cache"] = notes[step["id"]]
            click.echo(json.dumps(value, indent=2))
        elif form == "dot":
            click.echo(render.to_dot(graph))
        elif form == "mermaid":
            click.echo(render.to_mermaid(graph))
        else:
            click.echo(render.to_text(graph, notes))
