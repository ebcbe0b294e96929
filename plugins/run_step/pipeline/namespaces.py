"""Namespaces, ID maps, network mode, network sysctls and hostname (rows S40 to S45, S12)."""

from __future__ import annotations

from typing import Any

from ..errors import RequestError
from ..host import HostFacts
from ..request import NAMESPACES, IDMapping, NamespaceOption, RunRequest
from . import networks
from .draft import Draft

DEFAULTS: dict[str, bool] = {
    "pid": False,
    "network": False,
    "ipc": False,
    "uts": False,
    "mount": False,
    "cgroup": True,
    "user": True,
}
"""Whether a namespace is the host's by default (row S40)."""

NETWORK_SYSCTLS = {"net.ipv4.ping_group_range": "0 0"}
"""The sysctls of a configured network of the step's own, so that its root may ping (row S44)."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Merge the options over the defaults, by name."""
    options = {name: NamespaceOption(name, host=is_host) for name, is_host in DEFAULTS.items()}
    options.update(draft.options)
    specified_network = "network" in draft.options
    mapped = bool(request.uid_map or request.gid_map)
    if mapped or (not options["user"].host and not options["user"].path):
        _map_ids(draft, request, host)
        options["user"] = NamespaceOption("user")
        if not specified_network:
            options["network"] = NamespaceOption("network")
    elif not specified_network:
        # Without its own user namespace the step shares the builder's network (row S43).
        options["network"] = NamespaceOption("network", host=True)
    draft.network = networks.choose(draft, options["network"], request, host)
    entries: list[dict[str, Any]] = []
    for name in sorted(options):
        option = options[name]
        if option.host:
            continue
        path = "" if draft.network.names and name == "network" else option.path
        entries.append({"type": name, **({"path": path} if path else {})})
    draft.linux["namespaces"] = entries
    draft.namespaces = {entry["type"]: entry.get("path", "") for entry in entries}
    draft.host_namespaces = frozenset(NAMESPACES) - draft.namespaces.keys()
    _sysctls(draft, host)
    _hostname(draft, request)


def _map_ids(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the given ID maps, or else the host's own, one to one (row S43)."""
    uids = request.uid_map or _identity(host.mapped("uid"))
    gids = request.gid_map or _identity(host.mapped("gid"))
    draft.linux["uidMappings"] = [_mapping(item) for item in uids]
    draft.linux["gidMappings"] = [_mapping(item) for item in gids]
    draft.container_root = (_root(uids), _root(gids))


def _identity(rows: tuple[tuple[int, ...], ...]) -> tuple[IDMapping, ...]:
    return tuple(IDMapping(row[0], row[0], row[2]) for row in rows)


def _mapping(item: IDMapping) -> dict[str, int]:
    return {"containerID": item.container_id, "hostID": item.host_id, "size": item.size}


def _root(mappings: tuple[IDMapping, ...]) -> int:
    """Return the host's ID of the container's ID 0."""
    for item in mappings:
        if item.container_id <= 0 < item.container_id + item.size:
            return item.host_id - item.container_id
    return 0


def _sysctls(draft: Draft, host: HostFacts) -> None:
    configured = draft.network.mode not in ("host", "none", "path")
    if not configured or draft.isolation == "rootless":
        return
    if host.has_ping_group_range:
        draft.linux.setdefault("sysctl", {}).update(NETWORK_SYSCTLS)
    else:
        draft.warnings.append("this kernel lacks net.ipv4.ping_group_range, which is left as it is")


def hostname(text: str) -> str:
    """Return the name if sethostname(2) and a line of /etc/hosts accept it.

    Raises RequestError, which quotes ``text``.
    """
    if len(text.encode(errors="surrogatepass")) > 64 or not all(
        letter.isascii() and (letter.isalnum() or letter in "-._") for letter in text
    ):
        raise RequestError(f"hostname {text!r}: at most 64 letters, digits, dots and hyphens are wanted")
    return text


def _hostname(draft: Draft, request: RunRequest) -> None:
    name = ""
    if draft.namespaces.get("uts") == "":
        name = hostname(request.hostname or request.image.hostname) or draft.container_id[:12]
    draft.spec["hostname"] = name
    if name and "HOSTNAME" not in draft.env:  # row S12
        draft.env["HOSTNAME"] = name
        draft.process["env"].append(f"HOSTNAME={name}")
