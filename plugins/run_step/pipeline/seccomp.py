"""Seccomp (row S34): a profile becomes the spec's filter, once the capabilities are known."""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import RequestError
from ..host import HostFacts
from ..planning import Draft
from ..request import RunRequest
from .seccomp_profile import ARCHITECTURES, default_profile

GO_ARCHITECTURE = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
_ACTIONS = ("ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "TRACE", "TRAP", "NOTIFY")
_OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """``unconfined`` is no filter; the empty string the default profile; anything else a profile's JSON text."""
    if request.seccomp == "unconfined":
        return
    if draft.isolation == "chroot" and not host.has_libseccomp:
        if request.seccomp:
            from ..errors import HostError

            raise HostError("a seccomp profile needs libseccomp: install libseccomp2")
        draft.warnings.append("no seccomp filter: libseccomp is missing (install libseccomp2)")
        return
    profile = parse(request.seccomp) if request.seccomp else default_profile()
    capabilities = set(draft.process["capabilities"]["bounding"])
    draft.linux["seccomp"] = resolve(profile, capabilities, host.architecture, host.kernel)


def parse(text: str) -> dict[str, Any]:
    """A profile file's text. Raises RequestError that says what is wrong in it."""
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise RequestError(f"the seccomp profile is no JSON: {error}") from None
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise RequestError("the seccomp profile has no defaultAction")
    actions = [profile["defaultAction"]]
    for rule in profile.get("syscalls") or []:
        if not isinstance(rule, dict) or not (rule.get("names") or rule.get("name")):
            raise RequestError("a rule of the seccomp profile names no system call")
        actions.append(rule.get("action"))
        for argument in rule.get("args") or []:
            if str(argument.get("op")).removeprefix("SCMP_CMP_") not in _OPERATORS:
                raise RequestError(
                    f"the seccomp profile compares with {argument.get('op')!r}, which is unknown"
                )
    for action in actions:
        if str(action).removeprefix("SCMP_ACT_") not in _ACTIONS:
            raise RequestError(f"the seccomp profile has the unknown action {action!r}")
    return profile


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _matches(condition: dict[str, Any], capabilities: set[str], arch: str, kernel: str) -> list[bool]:
    out = []
    if condition.get("caps"):
        out.append(all(name in capabilities for name in condition["caps"]))
    if condition.get("arches"):
        out.append(arch in condition["arches"])
    if condition.get("minKernel"):
        out.append(_version(kernel) >= _version(condition["minKernel"]))
    return out


def resolve(profile: dict[str, Any], capabilities: set[str], machine: str, kernel: str) -> dict[str, Any]:
    """The OCI ``linux.seccomp`` object for a step (config-linux.md, "Seccomp").

    A rule stands when all of its ``includes`` hold and none of its ``excludes`` does, as in Docker.
    """
    arch = GO_ARCHITECTURE.get(machine, machine)
    out: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    if profile.get("defaultErrnoRet") is not None:
        out["defaultErrnoRet"] = profile["defaultErrnoRet"]
    own = ARCHITECTURES.get(arch, ())
    for entry in profile.get("archMap") or []:
        if own and entry.get("architecture") == own[0]:
            own = (own[0], *(entry.get("subArchitectures") or ()))
    out["architectures"] = list(profile.get("architectures") or own)
    if profile.get("flags"):
        out["flags"] = list(profile["flags"])
    rules = []
    for rule in profile.get("syscalls") or []:
        if not all(_matches(rule.get("includes") or {}, capabilities, arch, kernel)):
            continue
        if any(_matches(rule.get("excludes") or {}, capabilities, arch, kernel)):
            continue
        kept: dict[str, Any] = {"names": list(rule.get("names") or [rule["name"]]), "action": rule["action"]}
        if rule.get("errnoRet") is not None:
            kept["errnoRet"] = rule["errnoRet"]
        if rule.get("args"):
            kept["args"] = [{"valueTwo": 0, **argument} for argument in rule["args"]]
        rules.append(kept)
    out["syscalls"] = rules
    return out
