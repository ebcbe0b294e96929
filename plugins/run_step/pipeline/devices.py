"""Devices (rows S31, X35): the nodes that the step sees with their device-cgroup rules, and other edits of CDI.

If a node can be made, it is one of the spec's ``devices``, and the runtime makes it in the step's /dev. In a
user namespace no node can be made, and outside of the step's /dev it would end up in the layer. There the
host's own node is bound read-only: its mode and owner stay as they are, and data can still be written to the
device. :mod:`.cdi` reads CDI's files.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import HostError, RequestError
from ..host import DeviceFact, HostFacts
from ..linux.device_numbers import DENY_ALL, DEVICES
from ..planning import MountPoint
from ..request import RunRequest
from . import cdi
from .draft import Draft

_USUAL = {f"/dev/{name}": (major, minor) for name, major, minor in DEVICES} | {
    f"/dev/{name}": (-1, -1) for name in ("core", "fd", "ptmx", "stderr", "stdin", "stdout")
}
"""The usual devices in a step's /dev, by number; the last ones are links."""

_FORM = "the form is HOST-PATH[:CONTAINER-PATH][:rwm] or a CDI name vendor.com/class=name"


@dataclass(frozen=True)
class Node:
    """A device at ``path`` of the step.

    ``source`` is the host's node; it is empty if the host has none and only the number is known. ``own``: the
    node has another mode or owner than the host's. ``permissions`` may be empty.
    """

    path: str
    source: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    permissions: str
    own: bool = False


def parse(text: str) -> tuple[str, str, str]:
    """Split ``host[:container][:perms]`` into its three parts; a CDI name is the first of them.

    Raises RequestError, which quotes ``text``.
    """
    if cdi.is_name(text):
        if not cdi.NAME.fullmatch(text):
            raise RequestError(f"device {text!r}: {_FORM}")
        return text, "", ""
    parts = text.split(":")
    if not parts[0].startswith("/") or len(parts) > 3:
        raise RequestError(f"device {text!r}: {_FORM}")
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
    source, target = clean(source), clean(target)
    if target == "/":
        raise RequestError(
            f"device {text!r}: the root directory can't be a device; a container path must be given"
        )
    return source, target, permissions


def clean(path: str) -> str:
    """Return an absolute path in its shortest spelling."""
    return posixpath.normpath("/" + path.lstrip("/"))


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Apply the edits of CDI devices except their nodes: environment, mounts, hooks.

    Raises RequestError for a malformed device, HostError for one that this host does not have.
    """
    wanted = _cdi(request, host)
    draft.warnings += wanted.warnings
    for edits in wanted.edits:
        for entry in edits.env:
            name, _, value = entry.partition("=")
            draft.env[name] = value
        for hook in edits.hooks:
            if draft.isolation == "chroot":
                raise HostError(
                    f"{edits.origin} has the hook {hook['path']}, and hooks need an OCI runtime: use --isolation oci "
                    "or rootless, or another device"
                )
            given = {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook}
            draft.spec.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(given)
    draft.process["env"] = [f"{name}={value}" for name, value in draft.env.items()]
    draft.extra_mounts += _mounts(wanted, host).values()
    for _ in _nodes(draft, request, host):
        pass  # a missing device is reported before its consequences


def place(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Place the nodes, their rules, and CDI's additional groups. Runs when the mounts are known."""
    nodes: dict[str, Node] = {}
    for node in _nodes(draft, request, host):
        nodes.pop(node.path, None)  # a later node replaces an earlier one with the same path
        nodes[node.path] = node
    has_rules = draft.isolation == "oci" and host.is_machine_root
    if has_rules:
        draft.linux["resources"].setdefault("devices", []).append(dict(DENY_ALL))
    for node in nodes.values():
        if has_rules and node.permissions and node.type != "p":
            rules = draft.linux["resources"].setdefault("devices", [])
            rules.append({"allow": True, **_number(node), "access": node.permissions})
        elif not has_rules and set("rw") - set(node.permissions):
            draft.warnings.append(
                f"the device {node.path} has the permissions {node.permissions or 'none'!r}, which can't be "
                f"enforced: isolation {draft.isolation} has no device cgroup here, only the node's mode counts"
            )
        _place(draft, node, host)
    wanted = _cdi(request, host)
    _join(draft, [gid for edits in wanted.edits for gid in edits.groups], host)
    there = {item["destination"] for item in draft.spec["mounts"]}
    for path in sorted(_mounts(wanted, host).keys() - there):
        draft.warnings.append(
            f"the CDI mount on {path} is left out: isolation {draft.isolation} has its own there"
        )


def _place(draft: Draft, node: Node, host: HostFacts) -> None:
    """Put a node into the spec: as a node to make, or as a bind mount of the host's."""
    if _USUAL.get(node.path, (node.major, node.minor)) != (node.major, node.minor):
        if node.source == node.path:
            return  # the step has its own terminals, not the host's
        raise RequestError(f"the device {node.path} can't be another one: every step has its own there")
    above = [
        item
        for item in draft.spec["mounts"]
        if (node.path + "/").startswith(item["destination"].rstrip("/") + "/")
    ]
    nearest = max(above, key=lambda item: len(item["destination"]), default=None)
    if nearest is not None and nearest["destination"] == node.path:
        return  # a volume at this place has priority
    made = host.is_machine_root and "MKNOD" in host.capabilities and "user" not in draft.namespaces
    if not made and node.path in _USUAL:
        return
    if made and nearest is not None and nearest["type"] != "bind":  # the node would stay in the volume
        entry = {"path": node.path, **_number(node), "fileMode": node.mode, "uid": node.uid, "gid": node.gid}
        draft.linux.setdefault("devices", []).append({"type": entry.pop("type"), **entry})
        return
    if not node.source:
        why = "in a user namespace" if not made else "outside of the step's /dev"
        raise HostError(
            f"the device {node.path} has only a number on this host, and {why} only a node that the host has can "
            "be shown; give its hostPath, or a path below /dev, without a user namespace"
        )
    if node.own:
        draft.warnings.append(
            f"the device {node.path} has the host's mode and owner: it is the host's own node"
        )
    if nearest is None:
        status = draft.root.stat(node.path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise RequestError(f"the device {node.path} can't be put there: that is a directory in the image")
        if status is None:
            draft.actions.append(MountPoint(node.path, False))
    options = ["bind", "private", "ro", "nosuid", "noexec"]
    draft.spec["mounts"].append(
        {"destination": node.path, "type": "bind", "source": node.source, "options": options}
    )


def _number(node: Node) -> dict[str, Any]:
    return {"type": node.type, **({} if node.type == "p" else {"major": node.major, "minor": node.minor})}


def _join(draft: Draft, groups: list[int], host: HostFacts) -> None:
    """Add CDI's additional groups, whose numbers are those of the step."""
    user = draft.process["user"]
    missing = sorted(set(groups) - {user["gid"], *user.get("additionalGids", ())})
    if not missing:
        return
    if draft.isolation == "rootless":
        numbers = ", ".join(map(str, missing))
        draft.warnings.append(
            f"CDI's groups ({numbers}) are left out: rootless steps have no additional groups"
        )
        return
    for gid in missing:
        mapped = (
            draft.is_mapped("gidMappings", gid) if draft.linux.get("gidMappings") else host.has_id("gid", gid)
        )
        if not mapped:
            raise HostError(
                f"CDI's group {gid} does not exist in the step's user namespace; map more IDs (for an ordinary user: "
                "ranges in /etc/subgid), or run as root"
            )
    user["additionalGids"] = sorted({*user.get("additionalGids", ()), *missing})


def _cdi(request: RunRequest, host: HostFacts) -> cdi.Resolved:
    names = tuple(dict.fromkeys(text for text in request.devices if cdi.is_name(parse(text)[0])))
    return cdi.resolve(names, request.cdi_spec_dirs, host) if names else cdi.Resolved()


def _nodes(draft: Draft, request: RunRequest, host: HostFacts) -> Iterator[Node]:
    """Yield the nodes in the order of the request. A path that is a directory stands for every device in it."""
    for text in request.devices:
        source, target, permissions = parse(text)
        if cdi.is_name(source):
            continue
        below = source.rstrip("/") + "/"
        found = [item for item in host.devices if item.path == source or item.path.startswith(below)]
        if not found:
            raise HostError(
                f"device {text!r}: this host has no device {source}, nor a directory of that name with devices in it "
                "that can be read"
            )
        for item in found:
            path = target.rstrip("/") + item.path.removeprefix(source.rstrip("/"))
            yield Node(
                path,
                item.path,
                item.type,
                item.major,
                item.minor,
                item.mode,
                item.uid,
                item.gid,
                permissions,
            )
    user = draft.process["user"]
    for edits in _cdi(request, host).edits:
        for node in edits.nodes:
            yield _cdi_node(edits.origin, node, (user["uid"], user["gid"]), host)


def _cdi_node(origin: str, node: dict[str, Any], owner: tuple[int, int], host: HostFacts) -> Node:
    """Return CDI's node.

    Missing fields are the host's type and number, mode 0666 and the step's user, as in CDI's library.
    """
    source = clean(node.get("hostPath") or node["path"])
    fact = next((item for item in host.devices if item.path == source), None)
    kind = node.get("type", "").replace("u", "c")
    if fact is None:
        if not (kind == "p" or (kind and node.get("major"))):
            raise HostError(
                f"{origin}: the device {source} does not exist on this host; is its driver loaded?"
            )
        fact = DeviceFact("", kind, 0, 0)
    elif not node.get("major") and kind not in ("", fact.type):
        raise HostError(f"{origin}: the device {source} is of type {fact.type} on this host, not {kind}")
    major, minor = (node["major"], node.get("minor", 0)) if node.get("major") else (fact.major, fact.minor)
    same = (kind or fact.type, major, minor) == (fact.type, fact.major, fact.minor)
    permissions = node.get("permissions") or "rwm"
    wanted = (node.get("fileMode", fact.mode) & 0o7777, node.get("uid", fact.uid), node.get("gid", fact.gid))
    return Node(
        clean(node["path"]),
        fact.path if same else "",
        kind or fact.type,
        major,
        minor,
        node.get("fileMode", 0o666) & 0o7777,
        node.get("uid", owner[0]),
        node.get("gid", owner[1]),
        "" if permissions == "none" else "".join(letter for letter in "rwm" if letter in permissions),
        own=wanted != (fact.mode, fact.uid, fact.gid),
    )


def _mounts(wanted: cdi.Resolved, host: HostFacts) -> dict[str, dict[str, Any]]:
    """Return CDI's mounts by destination; a later one replaces an earlier one with the same destination."""
    out: dict[str, dict[str, Any]] = {}
    known = {item.path for item in host.paths}
    for edits in wanted.edits:
        for mount in edits.mounts:
            destination, source = clean(mount["containerPath"]), mount["hostPath"]
            options = list(mount.get("options", ())) or ["rbind", "private"]
            kind = mount.get("type", "")
            if {"bind", "rbind"} & set(options) or kind in ("", "bind", "none"):
                kind = "bind"
                options += [] if {"bind", "rbind"} & set(options) else ["rbind"]
                if source not in known:
                    raise HostError(f"{edits.origin}: {source}, which it mounts, does not exist on this host")
            if destination == "/":
                raise HostError(
                    f"{edits.origin} mounts {source} on the root directory, which can't be a mount"
                )
            out.pop(destination, None)
            out[destination] = {
                "destination": destination,
                "type": kind,
                "source": source,
                "options": options,
            }
    return out
