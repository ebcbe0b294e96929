"""``buildfront spec``: what each RUN would be given."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import click

from ..errors import BuildError
from .options import GroupedCommand, _option, run_defaults, shared, to_options


@click.command("spec", cls=GroupedCommand)
@shared
@_option(
    "Output",
    "--step",
    default="",
    metavar="N|NAME",
    help="only this step, by its number in plan, or this stage's",
)
@_option("Output", "--plan", "whole", is_flag=True, help="the whole RunPlan, not only the OCI config")
@_option(
    "Output", "--bundle", default="", metavar="DIR", help="write a bundle of one step that runc run takes"
)
@_option("Output", "--host-facts", default="", metavar="FILE", help="plan for a recorded host")
@click.pass_obj
def spec_command(root: str | None, /, **values: Any) -> None:
    """Print the OCI runtime config of each RUN step as JSON. Nothing runs.

    "rootfs_from" says which root filesystem names were looked up in: that of the parent step when the cache
    holds it, else that of the nearest earlier step that is known, and then names that RUN steps in between
    would create are not seen.
    """
    from ..plan_runs import plan_runs
    from .user_namespace import become_root

    defaults = run_defaults(values, always=True)
    become_root(root)
    options = to_options(values, root, run_defaults=defaults)
    facts = _facts(values["host_facts"])
    with ExitStack() as stack:
        found = plan_runs(options, stack, facts, step=values["step"], bundle=values["bundle"])
    if not values["whole"]:
        found = [{**item, "spec": item["plan"]["spec"]} for item in found]
        for item in found:
            del item["plan"]
    click.echo(json.dumps(found[0] if values["step"].isdigit() else found, indent=2))


def _facts(path: str) -> Any:
    if not path:
        return None
    from run_step import HostFacts, RequestError

    try:
        return HostFacts.from_file(path)
    except OSError as error:
        raise BuildError(f"{path} can't be read: {error.strerror}", status=2) from None
    except RequestError as error:
        raise BuildError(f"{path} holds no host facts: {error}", status=2) from None
