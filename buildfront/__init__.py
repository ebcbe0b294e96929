"""buildfront: images from Dockerfiles, without a daemon.

    import buildfront

    if __name__ == "__main__":
        buildfront.enter_user_namespace()
        outcome = buildfront.build(buildfront.BuildOptions(context=".", tags=("app",)))
        print(outcome.image_id)

The names in ``__all__`` are the API, and all that the command line uses. Every function takes the path of a store, by
default :func:`default_root`, and raises :class:`BuildError`, which says what is wrong, where, and what to do.

A name is loaded when it is first used: importing this package costs next to nothing, and a cached build is answered
before any of it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from run_step import Finding, HostFacts, RunRequest, Secret

    from .api.build import build
    from .api.call import outline, targets
    from .api.check import CheckReport, check
    from .api.doctor import doctor
    from .api.plan import BuildPlan, plan
    from .api.plan_runs import RunSpec, spec
    from .api.run_options import RunOptions, open_agents, read_secrets, run_defaults
    from .api.store_images import ImageSummary, images, inspect, tag
    from .api.store_info import StoreInfo, info
    from .api.transfers import import_rootfs, load, pull, push
    from .api.user_namespace import enter_user_namespace
    from .dockerfile.lint.described import BuildOutline, TargetList
    from .dockerfile.lint.findings import LintFinding
    from .engine.events import Event
    from .errors import BuildError, SourceRange
    from .export.output import parse_output
    from .options import BuildOptions, Output
    from .outcome import BuildOutcome
    from .progress.display import Progress, create_progress
    from .sizes import decimal_size
    from .store.location import default_root
    from .store.prune import CacheMount, parse_prune_filters, prune
    from .text import step_line, visible

_MODULES = {
    "build": ".api.build",
    "plan": ".api.plan",
    "spec": ".api.plan_runs",
    "check": ".api.check",
    "outline": ".api.call",
    "targets": ".api.call",
    "load": ".api.transfers",
    "import_rootfs": ".api.transfers",
    "pull": ".api.transfers",
    "push": ".api.transfers",
    "images": ".api.store_images",
    "inspect": ".api.store_images",
    "tag": ".api.store_images",
    "info": ".api.store_info",
    "prune": ".store.prune",
    "doctor": ".api.doctor",
    "enter_user_namespace": ".api.user_namespace",
    "default_root": ".store.location",
    "run_defaults": ".api.run_options",
    "read_secrets": ".api.run_options",
    "open_agents": ".api.run_options",
    "parse_output": ".export.output",
    "parse_prune_filters": ".store.prune",
    "create_progress": ".progress.display",
    "visible": ".text",
    "decimal_size": ".sizes",
    "step_line": ".text",
    "BuildOptions": ".options",
    "RunOptions": ".api.run_options",
    "RunRequest": "run_step",
    "Secret": "run_step",
    "Output": ".options",
    "HostFacts": "run_step",
    "BuildOutcome": ".outcome",
    "BuildPlan": ".api.plan",
    "RunSpec": ".api.plan_runs",
    "CheckReport": ".api.check",
    "LintFinding": ".dockerfile.lint.findings",
    "BuildOutline": ".dockerfile.lint.described",
    "TargetList": ".dockerfile.lint.described",
    "ImageSummary": ".api.store_images",
    "StoreInfo": ".api.store_info",
    "CacheMount": ".store.prune",
    "Finding": "run_step",
    "Event": ".engine.events",
    "Progress": ".progress.display",
    "BuildError": ".errors",
    "SourceRange": ".errors",
}
"""The module of each public name. No submodule of this package has one of these names: importing it would set the
attribute to the module."""

__all__ = [
    "build",
    "plan",
    "spec",
    "check",
    "outline",
    "targets",
    "load",
    "import_rootfs",
    "pull",
    "push",
    "images",
    "inspect",
    "tag",
    "info",
    "prune",
    "doctor",
    "enter_user_namespace",
    "default_root",
    "run_defaults",
    "read_secrets",
    "open_agents",
    "parse_output",
    "parse_prune_filters",
    "create_progress",
    "visible",
    "decimal_size",
    "step_line",
    "BuildOptions",
    "RunOptions",
    "RunRequest",
    "Secret",
    "Output",
    "HostFacts",
    "BuildOutcome",
    "BuildPlan",
    "RunSpec",
    "CheckReport",
    "LintFinding",
    "BuildOutline",
    "TargetList",
    "ImageSummary",
    "StoreInfo",
    "CacheMount",
    "Finding",
    "Event",
    "Progress",
    "BuildError",
    "SourceRange",
    "__version__",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # not needed for a cached build

    value = getattr(import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
