"""Devices (rows S31, X35): nodes in the spec, each with its device-cgroup rule; CDI names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import HostError, RequestError
from ..host import DeviceFact, HostFacts
from ..planning import Draft
from ..request import RunRequest

_CDI_NAME = re.compile(r"[A-Za-z][\w.-]*/[A-Za-z0-9][\w.-]*=[\w.:-]+", re.ASCII)
_CDI_VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0")


def is_cdi(text: str) -> bool:
    """Whether a ``--device`` value is a CDI name, ``vendor/class=name``."""
    return not text.startswith("/") and "=" in text


def parse(text: str) -> tuple[str, str, str]:
    """``host[:container][:perms]`` as its three parts. Raises RequestError that quotes ``text``."""
    form = "the form is HOST-PATH[:CONTAINER-PATH][:rwm] or a CDI name vendor.com/class=name"
    if is_cdi(text):
        if not _CDI_NAME.fullmatch(text):
            raise RequestError(f"device {text!r}: {form}")
        return text, "", ""
    parts = text.split(":")
    if not parts[0].startswith("/") or len(parts) > 3:
        raise RequestError(f"device {text!r}: {form}")
    source, target, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 2 and not parts[1].startswith("/"):
        permissions = parts[1]
    elif len(parts) >= 2:
        target = parts[1]
        permissions = parts[2] if len(parts) == 3 else permissions
    if not target.startswith("/"):
        raise RequestError(f"device {text!r}: the container path {target!r} must be absolute")
    if not permissions or set(permissions) - set("rwm") or len(set(permissions)) != len(permissions):
        raise RequestError(f"device {text!r}: permissions {permissions!r} are not made of r, w and m")
    return source, target, permissions


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """A path that is a directory stands for every device in it."""
    for text in request.devices:
        source, target, permissions = parse(text)
        if is_cdi(text):
            _cdi(draft, source, host)
            continue
        below = source.rstrip("/") + "/"
        found = [item for item in host.devices if item.path == source or item.path.startswith(below)]
        if not found:
            raise HostError(f"device {text!r}: this host has no device {source}")
        for item in found:
            add(draft, item, target.rstrip("/") + item.path.removeprefix(source.rstrip("/")), permissions)


def add(draft: Draft, item: DeviceFact, path: str, permissions: str) -> None:
    """One node and its rule; the first to claim a path keeps it."""
    devices = draft.linux.setdefault("devices", [])
    if any(device["path"] == path for device in devices):
        return
    devices.append(
        {
            "type": item.type,
            "path": path,
            "major": item.major,
            "minor": item.minor,
            "fileMode": item.mode,
            "uid": item.uid,
            "gid": item.gid,
        }
    )
    rules = draft.linux["resources"].setdefault("devices", [])
    rules.append(
        {"allow": True, "type": item.type, "major": item.major, "minor": item.minor, "access": permissions}
    )


def _cdi(draft: Draft, name: str, host: HostFacts) -> None:
    """Apply the edits of a CDI device (Container Device Interface specification, SPEC.md)."""
    kind, _, device = name.partition("=")
    known = []
    for text in host.cdi_specs:
        spec = _load(text)
        if spec.get("kind") != kind:
            continue
        for item in spec.get("devices") or []:
            known.append(f"{kind}={item.get('name')}")
            if item.get("name") == device:
                for edits in (spec.get("containerEdits") or {}, item.get("containerEdits") or {}):
                    _edit(draft, edits, host)
                return
    hint = f"known are {', '.join(known)}" if known else "no CDI specification of that kind was found"
    raise HostError(f"device {name!r} is not known to CDI: {hint}")


def _load(text: str) -> Mapping[str, Any]:
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise HostError(f"a CDI specification is no JSON: {error}") from None
    if not isinstance(spec, dict) or spec.get("cdiVersion") not in _CDI_VERSIONS:
        raise HostError(f"a CDI specification has no version that is known ({', '.join(_CDI_VERSIONS)})")
    return spec


def _edit(draft: Draft, edits: Mapping[str, Any], host: HostFacts) -> None:
    for entry in edits.get("env") or []:
        name, _, value = entry.partition("=")
        draft.env[name] = value
    draft.process["env"] = [f"{name}={value}" for name, value in draft.env.items()]
    for node in edits.get("deviceNodes") or []:
        source = node.get("hostPath") or node["path"]
        fact = next((item for item in host.devices if item.path == source), None)
        if fact is None and node.get("major") is None:
            raise HostError(f"the CDI device node {source} does not exist on this host")
        base = fact or DeviceFact(source, node.get("type", "c"), node["major"], node.get("minor", 0))
        item = DeviceFact(
            source,
            node.get("type") or base.type,
            node.get("major") or base.major,
            node.get("minor") or base.minor,
            node.get("fileMode") or base.mode,
            node.get("uid") or base.uid,
            node.get("gid") or base.gid,
        )
        add(draft, item, node["path"], node.get("permissions") or "rwm")
    for mount in edits.get("mounts") or []:
        draft.extra_mounts.append(
            {
                "destination": mount["containerPath"],
                "type": mount.get("type") or "bind",
                "source": mount["hostPath"],
                "options": list(mount.get("options") or ["rbind", "private"]),
            }
        )
    for hook in edits.get("hooks") or []:
        entry = {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook}
        draft.spec.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(entry)
