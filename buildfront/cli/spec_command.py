"""``buildfront spec``."""

from __future__ import annotations

import json
from typing import Any

import click

import buildfront

from .option_groups import GroupedCommand, build_options, option, shared
from .program import Program


@click.command("spec", cls=GroupedCommand)
@shared
@option(
    "Output",
    "--step",
    default="",
    metavar="N|NAME",
    help="only this step, by its number in plan, or this stage's",
)
@option("Output", "--plan", "whole", is_flag=True, help="the whole RunPlan, not only the OCI config")
@option(
    "Output", "--bundle", default="", metavar="DIR", help="write a bundle of one step that runc run takes"
)
@option("Output", "--host-facts", default="", metavar="FILE", help="plan for a recorded host")
@click.pass_obj
def spec_command(program: Program, /, **values: Any) -> None:
    """Print the OCI runtime config of each RUN step as JSON. Nothing runs.

    "rootfs_from" says which root filesystem names were looked up in: that of the parent step when the cache
    holds it, else that of the nearest earlier step that is known, and then names that RUN steps in between
    would create are not seen.
    """
    options = build_options(values, program.root, run_options=True)
    program.become_root()
    facts = values["host_facts"] or None
    specs = buildfront.spec(options, step=values["step"], bundle=values["bundle"], host_facts=facts)
    found = [item.to_json() for item in specs]
    if not values["whole"]:
        found = [{**item, "spec": item["plan"]["spec"]} for item in found]
        for item in found:
            del item["plan"]
    click.echo(json.dumps(found[0] if values["step"].isdigit() else found, indent=2))
