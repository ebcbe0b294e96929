"""``buildfront plan``."""

from __future__ import annotations

from typing import Any

import click

import buildfront

from .option_groups import GroupedCommand, build_options, option, shared
from .program import Program
from .tables import check_format


@click.command("plan", cls=GroupedCommand)
@shared
@option(
    "Output", "--format", "form", default="table", metavar="[table|json|dot|mermaid]", help="how to print it"
)
@click.pass_obj
def plan_command(program: Program, /, **values: Any) -> None:
    """Print the step graph of CONTEXT and which steps the cache holds. Nothing runs."""
    check_format(values["form"], ("table", "json", "dot", "mermaid"))
    plan = buildfront.plan(build_options(values, program.root))
    click.echo(plan.render(values["form"]))
