"""Checks of a plan that comes as JSON, besides its types.

Names stay in their directory, and the paths and numbers are such that the kernel takes them. The checks do not
judge what the plan does: it may mount and change all that its executor may, see docs/plugin.md.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from .documents import is_shallow, short
from .errors import RequestError
from .linux.process import CAPABILITIES
from .request import CONTAINER_ID, ISOLATIONS
from .spec_types import Spec

NETWORK_MODES = ("host", "none", "path", "bridge", "slirp4netns", "pasta", "cni")
"""The modes that :class:`run_step.planning.NetworkPlan` knows."""

_LARGEST_ID = (1 << 32) - 2
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1


def _name(value: str) -> str:
    clean = not value.startswith("/") and posixpath.normpath(value) == value
    if not clean or value in ("", ".") or value.startswith("..") or "\0" in value:
        return "it is not a relative path without . and .. in it"
    return ""


def _path(value: str) -> str:
    return "" if value.startswith("/") and "\0" not in value else "an absolute path is wanted"


def _id(value: int) -> str:
    return "" if 0 <= value <= _LARGEST_ID else f"an ID lies between 0 and {_LARGEST_ID}"


def _mode(value: int) -> str:
    return "" if 0 <= value <= 0o7777 else "a mode lies between 0 and 07777"


def _device(value: int) -> str:
    return "" if 0 <= value < 1 << 32 else "the number of a device lies between 0 and 4294967295"


def _variable(value: str) -> str:
    return "a name without = is wanted" if not value or "=" in value or "\0" in value else ""


_RULES: Mapping[str, Callable[[Any], str]] = {
    "name": _name,
    "path": _path,
    "source": _path,
    "uid": _id,
    "gid": _id,
    "mode": _mode,
    "major": _device,
    "minor": _device,
    "variable": _variable,
}
"""By the names of the fields of a file or an action: what is wrong with a value."""


def check_item(item: object, place: str) -> None:
    """Raise RequestError for the first field of a generated file or an action that can't be carried out."""
    for field in dataclasses.fields(item):  # type: ignore[arg-type]
        value = getattr(item, field.name)
        rule = _RULES.get(field.name)
        optional = field.name == "path" and value == "" and type(item).__name__ == "TakeSource"
        if rule is not None and not optional and (why := rule(value)):
            raise RequestError(f"{place}.{field.name}: {short(value)}: {why}")


class _File(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def content(self) -> str: ...


def check_files(files: Sequence[_File]) -> None:
    """Raise RequestError for the first generated file that can't be written beside the others."""
    names = set()
    for number, item in enumerate(files):
        place = f"plan.files[{number}]"
        check_item(item, place)
        if "/" in item.name:
            raise RequestError(f"{place}.name: {short(item.name)}: a name without / is wanted")
        if item.name in names:
            raise RequestError(f"{place}.name: {short(item.name)}: two files have this name")
        names.add(item.name)
        _require_text(f"{place}.content", item.content)


def check_runtime(runtime: str, flags: Sequence[str]) -> None:
    """Raise RequestError for words of which no command line can be made."""
    for place, word in (
        ("runtime", runtime),
        *((f"runtime_flags[{n}]", flag) for n, flag in enumerate(flags)),
    ):
        _require_argument(f"plan.{place}", word)


def check_choices(isolation: str, container_id: str, mode: str) -> None:
    """Raise RequestError for an isolation, a name or a network mode that there is not."""
    if isolation not in ISOLATIONS:
        raise RequestError(f"plan.isolation: {short(isolation)} is not one of {', '.join(ISOLATIONS)}")
    if not CONTAINER_ID.fullmatch(container_id):
        raise RequestError(
            f"plan.container_id: {short(container_id)} is not a name of letters, digits, _ . + -"
        )
    if mode not in NETWORK_MODES:
        raise RequestError(f"plan.network.mode: {short(mode)} is not one of {', '.join(NETWORK_MODES)}")


def check_spec(spec: Spec) -> None:
    """Raise RequestError for the first value of a spec that no step can be given."""
    if not is_shallow(spec):
        raise RequestError("plan.spec: it is nested too deep")
    for place, value in _walk(spec, "plan.spec"):
        if isinstance(value, str):
            _require_argument(place, value)
        if isinstance(value, int) and not _LEAST <= value <= _MOST:
            raise RequestError(f"{place}: the number is out of range")
    process = spec["process"]
    if not process["args"]:
        raise RequestError("plan.spec.process.args: it has no command")
    for index, entry in enumerate(process["env"]):
        if "=" not in entry:
            raise RequestError(f"plan.spec.process.env[{index}]: {short(entry)}: the form is NAME=VALUE")
    _require("plan.spec.process.cwd", process["cwd"], _path)
    user = process["user"]
    for place, number in (("uid", user["uid"]), ("gid", user["gid"])):
        _require(f"plan.spec.process.user.{place}", number, _id)
    for index, number in enumerate(user.get("additionalGids", ())):
        _require(f"plan.spec.process.user.additionalGids[{index}]", number, _id)
    for kind, names in process.get("capabilities", {}).items():
        for index, name in enumerate(names):
            if name.removeprefix("CAP_") not in CAPABILITIES or not name.startswith("CAP_"):
                place = f"plan.spec.process.capabilities.{kind}[{index}]"
                raise RequestError(f"{place}: {short(name)} is not the name of a capability")
    size = process.get("consoleSize")
    if size is not None and not (1 <= size["width"] <= 65535 and 1 <= size["height"] <= 65535):
        raise RequestError("plan.spec.process.consoleSize: both numbers lie between 1 and 65535")
    for index, mount in enumerate(spec["mounts"]):
        _require(f"plan.spec.mounts[{index}].destination", mount["destination"], _path)
    for index, device in enumerate(spec["linux"].get("devices", ())):
        _require(f"plan.spec.linux.devices[{index}].path", device["path"], _path)
        _require(f"plan.spec.linux.devices[{index}].uid", device.get("uid", 0), _id)
        _require(f"plan.spec.linux.devices[{index}].gid", device.get("gid", 0), _id)
    for kind in ("uidMappings", "gidMappings"):
        for index, row in enumerate(spec["linux"].get(kind, ())):  # type: ignore[var-annotated, arg-type]
            ends = (row["containerID"] + row["size"], row["hostID"] + row["size"])
            if min(row["containerID"], row["hostID"]) < 0 or row["size"] < 1 or max(ends) > 1 << 32:
                raise RequestError(
                    f"plan.spec.linux.{kind}[{index}]: the size is at least 1, and IDs lie between 0 and 4294967295"
                )


def _require(place: str, value: Any, rule: Callable[[Any], str]) -> None:
    if why := rule(value):
        raise RequestError(f"{place}: {short(value)}: {why}")


def _require_text(place: str, value: str) -> None:
    try:
        value.encode(errors="surrogateescape")  # as a file of the host or the image has it
    except UnicodeEncodeError:
        raise RequestError(f"{place}: {short(value)} is not UTF-8 text") from None


def _require_argument(place: str, value: str) -> None:
    if "\0" in value:
        raise RequestError(f"{place}: there is a null byte in {short(value)}")
    _require_text(place, value)


def _walk(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every value of a tree of JSON, and the keys of its objects, with their places."""
    yield place, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield place, name
            yield from _walk(item, f"{place}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, f"{place}[{index}]")
