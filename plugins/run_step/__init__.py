"""run_step: the RUN step of a Dockerfile build, for any frontend.

    request = RunRequest(args=("/bin/sh", "-c", "id"), rootfs="/path/to/rootfs", isolation="chroot")
    result = run(request)

``plan`` decides everything as plain data, ``execute`` carries it out, ``run`` does both. The names in
``__all__`` are the contract; nothing else of this package is. They are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import option_checks
    from .actions import write_files
    from .contract import Executor, Output, Plan, Result, check_executor, check_plan, check_result
    from .defaults import Choice, Defaults, decide
    from .doctor import Finding, examine
    from .errors import HostError, RequestError, RunStepError
    from .execution import execute, materialise, write_bundle
    from .executor import LocalExecutor, plan_here, run
    from .host import HostFacts
    from .host_lookup import look_up, security_options
    from .host_probe import probe
    from .inputs import Inputs, Secret, parse_secret
    from .linux.id_maps import is_machine_root, needs_user_namespace
    from .option_text import parse_size, size_text, split_values
    from .pipeline import plan
    from .pipeline.isolation_choice import choose as choose_isolation
    from .pipeline.user import Identity
    from .pipeline.user import group as resolve_group
    from .pipeline.user import resolve as resolve_user
    from .planning import RunPlan
    from .recovery import recover
    from .request import (
        AGENT_SOCKET,
        ConsoleSize,
        IDMapping,
        ImageDefaults,
        NamespaceOption,
        Resources,
        RunMount,
        RunRequest,
        wrong_target,
    )
    from .rootfs import Root
    from .rootless import enter_user_namespace
    from .run_result import RunResult
    from .ssh import parse_ssh
    from .supervisor_client import Supervisor
    from .trees import check_move, copy_content, copy_tree, move_tree, remove_tree
    from .validation import validate

_HOME = {
    "validate": "validation",
    "look_up": "host_lookup",
    "security_options": "host_lookup",
    "option_checks": "option_checks",
    "HostError": "errors",
    "RequestError": "errors",
    "RunStepError": "errors",
    "RunResult": "run_result",
    "Supervisor": "supervisor_client",
    "execute": "execution",
    "materialise": "execution",
    "examine": "doctor",
    "Finding": "doctor",
    "write_files": "actions",
    "write_bundle": "execution",
    "Executor": "contract",
    "Output": "contract",
    "Plan": "contract",
    "Result": "contract",
    "check_executor": "contract",
    "check_plan": "contract",
    "check_result": "contract",
    "LocalExecutor": "executor",
    "plan_here": "executor",
    "run": "executor",
    "recover": "recovery",
    "enter_user_namespace": "rootless",
    "is_machine_root": "linux.id_maps",
    "needs_user_namespace": "linux.id_maps",
    "Choice": "defaults",
    "Defaults": "defaults",
    "decide": "defaults",
    "Inputs": "inputs",
    "Secret": "inputs",
    "parse_secret": "inputs",
    "parse_ssh": "ssh",
    "HostFacts": "host",
    "probe": "host_probe",
    "AGENT_SOCKET": "request",
    "parse_size": "option_text",
    "size_text": "option_text",
    "split_values": "option_text",
    "RunPlan": "planning",
    "plan": "pipeline",
    "ConsoleSize": "request",
    "IDMapping": "request",
    "ImageDefaults": "request",
    "NamespaceOption": "request",
    "Resources": "request",
    "RunMount": "request",
    "wrong_target": "request",
    "RunRequest": "request",
    "Root": "rootfs",
    "check_move": "trees",
    "copy_content": "trees",
    "copy_tree": "trees",
    "move_tree": "trees",
    "remove_tree": "trees",
    "Identity": "pipeline.user",
    "resolve_user": "pipeline.user:resolve",
    "resolve_group": "pipeline.user:group",
    "choose_isolation": "pipeline.isolation_choice:choose",
}

__all__ = [
    "RunRequest",
    "RunMount",
    "wrong_target",
    "ImageDefaults",
    "Resources",
    "NamespaceOption",
    "IDMapping",
    "ConsoleSize",
    "HostFacts",
    "probe",
    "look_up",
    "plan",
    "plan_here",
    "RunPlan",
    "execute",
    "run",
    "RunResult",
    "Supervisor",
    "Inputs",
    "Secret",
    "parse_secret",
    "parse_ssh",
    "Executor",
    "Plan",
    "Result",
    "Output",
    "check_executor",
    "check_plan",
    "check_result",
    "LocalExecutor",
    "recover",
    "enter_user_namespace",
    "is_machine_root",
    "needs_user_namespace",
    "decide",
    "Defaults",
    "Choice",
    "choose_isolation",
    "validate",
    "security_options",
    "materialise",
    "write_files",
    "write_bundle",
    "Root",
    "copy_content",
    "copy_tree",
    "check_move",
    "move_tree",
    "remove_tree",
    "Identity",
    "resolve_user",
    "resolve_group",
    "option_checks",
    "AGENT_SOCKET",
    "parse_size",
    "size_text",
    "split_values",
    "examine",
    "Finding",
    "RunStepError",
    "RequestError",
    "HostError",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if home == "option_checks":
        value = import_module(".option_checks", __name__)
        globals()[name] = value
        return value
    module, _, attribute = home.partition(":")
    value = getattr(import_module(f".{module}", __name__), attribute or name)
    globals()[name] = value
    return value
