"""Checks of all RUN steps together: what a Dockerfile may ask for, and what no step can have."""

from __future__ import annotations

from dataclasses import replace

import run_step
from run_step import HostError, RequestError

from ...errors import BuildError
from ...graph.step_graph import RunOp, StepGraph
from ...options import EngineOptions
from ..active_build import ActiveBuild
from .run_request import run_request


def check_allowed(graph: StepGraph, options: EngineOptions) -> None:
    """Raise BuildError, with the place, for a RUN that asks for more of the machine than the caller allowed.

    The machine and its defaults make no difference: what a Dockerfile may do is known before anything runs.
    """
    asked = options.run_defaults.network if options.run_defaults is not None else ""
    for step, op in graph.runs():
        try:
            if op.network == "host" and asked != "host":
                require(options, "network.host", "RUN --network=host")
            if op.security == "insecure":
                require(options, "security.insecure", "RUN --security=insecure")
            for device in op.devices:
                if device.required:
                    require_device(options, device.name)
        except BuildError as error:
            raise error.at(step.source) from None


def require(options: EngineOptions, entitlement: str, what: str) -> None:
    """Raise BuildError where the caller did not allow ``entitlement``."""
    if entitlement not in options.allow:
        raise BuildError(
            f"{what} is not allowed",
            hint=f"allow it with --allow {entitlement}, if you trust the Dockerfile",
        )


def require_device(options: EngineOptions, name: str) -> None:
    """Raise BuildError where the caller did not allow a device, by its name or all of them."""
    if "device" not in options.allow and f"device={name}" not in options.allow:
        require(options, f"device={name}", f"RUN --device={name}")


def check_runs(build: ActiveBuild) -> None:
    """Raise BuildError for what no step can have: a volume whose source is missing, an unknown device."""
    state = build.state
    options = state.options
    runs = [(step, op) for step, op in state.graph.runs() if step.id not in state.results]
    defaults = options.run_defaults
    if runs and defaults is not None and _names_the_host(defaults):
        try:
            _trial(build, runs[0][1])
        except (RequestError, HostError) as error:
            raise BuildError(str(error)) from error


def _names_the_host(defaults: run_step.RunRequest) -> bool:
    """Whether the options name something of the host for every step."""
    return any((defaults.volumes, defaults.mounts, defaults.devices, defaults.hooks_dirs))


def _trial(build: ActiveBuild, op: RunOp) -> None:
    """Plan a RUN with the build's options in an empty root filesystem."""
    op = replace(
        op, network="default", user="", cwd="/", mounts=(), volumes=(), script=None, security="", devices=()
    )
    request = run_request(build.state.options, op, build.session.directory("none"), "0" * 64, ())
    build.executor.plan(replace(request, group_add=()))
