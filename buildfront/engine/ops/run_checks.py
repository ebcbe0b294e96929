"""Checks of all RUN steps together, before the first step runs."""

from __future__ import annotations

from dataclasses import replace

import run_step
from run_step import HostError, RequestError

from ...errors import BuildError
from ...graph.step_graph import RunOp
from ...options import EngineOptions
from ..active_build import ActiveBuild
from .run import run_request


def check_runs(build: ActiveBuild) -> None:
    """Raise BuildError for what no step can have: a volume whose source is missing, an unknown device.

    Also for a RUN --network=host where the default is a network of the step's own, which depends on the machine.
    """
    state = build.state
    options = state.options
    runs = [(step, op) for step, op in state.graph.runs() if step.id not in state.results]
    defaults = options.run_defaults
    if runs and defaults is not None and _names_the_host(defaults):
        try:
            _trial(build, runs[0][1])
        except (RequestError, HostError) as error:
            raise BuildError(str(error)) from error
    if "network.host" in options.allow or not is_default_network(options):
        return
    hosts = [(step, op) for step, op in runs if op.network == "host"]
    if hosts:
        step, op = hosts[0]
        try:
            mode = _trial(build, op, with_host=False)
        except (RequestError, HostError) as error:
            raise BuildError(str(error), where=step.source) from error
        if mode not in ("", "host"):
            raise network_not_allowed(mode).at(step.source)


def _names_the_host(defaults: run_step.RunRequest) -> bool:
    """Whether the options name something of the host for every step."""
    return any((defaults.volumes, defaults.mounts, defaults.devices, defaults.hooks_dirs))


def _trial(build: ActiveBuild, op: RunOp, *, with_host: bool = True) -> str:
    """Plan a RUN with the build's options in an empty root filesystem, and return the mode of its network.

    It is empty where the executor does not know.
    """
    op = replace(op, network="default", user="", cwd="/", mounts=(), volumes=())
    request = run_request(build.state.options, op, build.session.directory("none"), "0" * 64, ())
    request = replace(request, group_add=())
    if not with_host:
        request = replace(request, volumes=(), mounts=(), devices=(), hooks_dirs=())
    return build.executor.plan(request).network_mode


def is_default_network(options: EngineOptions) -> bool:
    """Whether the build asks for no network."""
    return options.run_defaults is None or options.run_defaults.network in ("", "default")


def network_not_allowed(mode: str) -> BuildError:
    """Return the error for RUN --network=host where the build's network is another one."""
    return BuildError(
        f"RUN --network=host is not allowed: the build's network is {mode}",
        hint="allow it with --allow network.host, if you trust the Dockerfile",
    )
