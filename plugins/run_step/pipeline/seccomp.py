"""Seccomp (row S34): a profile becomes the spec's filter, once the capabilities are known."""

from __future__ import annotations

import re
from typing import Any

from .. import documents
from ..documents import short
from ..errors import HostError, RequestError
from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft
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
    """Set the filter.

    ``unconfined`` means no filter, the empty string the default profile, and anything else is the JSON text
    of a profile.
    """
    if request.seccomp == "unconfined":
        return
    if draft.isolation == "chroot" and not host.has_libseccomp:
        if request.seccomp:
            raise HostError("a seccomp profile needs libseccomp: install libseccomp2")
        draft.warnings.append("no seccomp filter: libseccomp is missing (install libseccomp2)")
        return
    profile = parse(request.seccomp) if request.seccomp else default_profile()
    capabilities = set(draft.process["capabilities"]["bounding"])
    draft.linux["seccomp"] = resolve(profile, capabilities, host.architecture, host.kernel)


def parse(text: str) -> dict[str, Any]:
    """Parse the text of a profile file. Raises RequestError, which says what is wrong."""
    try:
        profile = documents.parse(text, limit=documents.SPECIFICATION)
    except ValueError as error:
        raise RequestError(f"the seccomp profile is not JSON: {error}") from None
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise RequestError("the seccomp profile has no defaultAction")
    _action(profile["defaultAction"])
    _number(profile, "defaultErrnoRet", 0xFFFF)
    _texts(profile, "architectures", "flags")
    for entry in _objects(profile, "archMap"):
        _texts(entry, "subArchitectures")
    for rule in _objects(profile, "syscalls"):
        if not (rule.get("names") or rule.get("name")):
            raise RequestError("a rule of the seccomp profile names no system call")
        _texts(rule, "names")
        if not _is_word(rule.get("name") or ""):
            raise RequestError(f"the seccomp profile has a name {short(rule['name'])}, which is not a string")
        _action(rule.get("action"))
        _number(rule, "errnoRet", 0xFFFF)
        _arguments(rule)
        for name in ("includes", "excludes"):
            condition = _object(rule, name)
            _texts(condition, "caps", "arches")
            if not isinstance(condition.get("minKernel") or "", str):
                raise RequestError(f"the seccomp profile has a minKernel {short(condition['minKernel'])}")
    return profile


def _arguments(rule: dict[str, Any]) -> None:
    for argument in _objects(rule, "args"):
        if str(argument.get("op")).removeprefix("SCMP_CMP_") not in _OPERATORS:
            raise RequestError(
                f"the seccomp profile compares with {short(argument.get('op'))}, which is unknown"
            )
        for name, largest in (("index", 5), ("value", (1 << 64) - 1)):
            if argument.get(name) is None:
                raise RequestError(f"a comparison of the seccomp profile has no {name}")
            _number(argument, name, largest)
        _number(argument, "valueTwo", (1 << 64) - 1)


def _action(action: Any) -> None:
    if not isinstance(action, str) or action.removeprefix("SCMP_ACT_") not in _ACTIONS:
        raise RequestError(f"the seccomp profile has the unknown action {short(action)}")


def _number(value: dict[str, Any], name: str, largest: int) -> None:
    number = value.get(name)
    if number is not None and (type(number) is not int or not 0 <= number <= largest):
        raise RequestError(
            f"the seccomp profile has {name} {short(number)}: a number up to {largest} is wanted"
        )


def _texts(value: dict[str, Any], *names: str) -> None:
    for name in names:
        items = value.get(name)
        if items is not None and not (isinstance(items, list) and all(map(_is_word, items))):
            raise RequestError(f"the seccomp profile has {name} {short(items)}: a list of texts is wanted")


def _is_word(item: Any) -> bool:
    return isinstance(item, str) and item.isascii() and "\0" not in item


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    item = value.get(name) or {}
    if not isinstance(item, dict):
        raise RequestError(f"the seccomp profile has {name} {short(item)}: an object is wanted")
    return item


def _objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = value.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RequestError(f"the seccomp profile has {name} {short(items)}: a list of objects is wanted")
    return items


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"(\d{1,9})\.(\d{1,9})", text, re.ASCII)
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
    """Return the OCI ``linux.seccomp`` object for a step (config-linux.md, "Seccomp").

    A rule applies if all of its ``includes`` and none of its ``excludes`` hold, as in Docker.
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
