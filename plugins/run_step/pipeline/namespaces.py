"""Namespaces, hostname and the network mode (rows S40, S41, S43, S45)."""

from __future__ import annotations

from typing import Any

from ..errors import HostError, RequestError
from ..host import HostFacts
from ..planning import Draft, NetworkPlan
from ..request import NAMESPACES, NamespaceOption, RunRequest

DEFAULTS: dict[str, bool] = {
    "pid": False,
    "network": False,
    "ipc": False,
    "uts": False,
    "mount": False,
    "cgroup": True,
    "user": True,
}
"""Whether a namespace is the host's when nothing was asked (row S40)."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Merge the request over the defaults, by name; network options count as a network namespace option."""
    options: dict[str, NamespaceOption] = {
        name: NamespaceOption(name, host=is_host) for name, is_host in DEFAULTS.items()
    }
    asked = list(request.namespaces)
    network = network_option(request.network)
    if network is not None:
        asked.append(network)
    for option in asked:
        if option.name not in NAMESPACES:
            raise RequestError(f"unknown namespace {option.name!r}; known are {', '.join(NAMESPACES)}")
        options[option.name] = option
    specified_network = any(option.name == "network" for option in asked)
    private_user = bool(request.uid_map or request.gid_map) or not options["user"].host
    if private_user and options["pid"].host and draft.isolation == "oci":
        raise RequestError("a private user namespace can't be combined with the host's PID namespace")
    if private_user:
        raise HostError("user namespaces for a RUN step are not built yet; leave out the ID maps")
    if not specified_network:
        # With no user namespace of its own the step shares the builder's network (row S43).
        options["network"] = NamespaceOption("network", host=True)
    entries: list[dict[str, Any]] = []
    for name in sorted(options):
        option = options[name]
        if option.host or name == "user":
            continue
        if option.path and not option.path.startswith("/"):
            raise HostError(
                f"{name} namespace {option.path!r}: named networks are not built yet; use ns:/PATH"
            )
        entries.append({"type": name, **({"path": option.path} if option.path else {})})
    draft.linux["namespaces"] = entries
    draft.namespaces = {entry["type"]: entry.get("path", "") for entry in entries}
    draft.host_namespaces = frozenset(NAMESPACES) - draft.namespaces.keys()
    draft.network = _network_plan(options["network"])
    _hostname(draft, request)


def network_option(text: str) -> NamespaceOption | None:
    """``--network`` as a namespace option; None for ``default``. Raises RequestError or HostError."""
    if text in ("", "default"):
        return None
    if text == "host":
        return NamespaceOption("network", host=True)
    if text == "none":
        return NamespaceOption("network")
    if text.startswith("ns:"):
        if not text[3:].startswith("/"):
            raise RequestError(f"network {text!r}: the path after ns: must be absolute")
        return NamespaceOption("network", path=text[3:])
    if text in ("private", "bridge", "slirp4netns", "pasta"):
        raise HostError(f"network {text!r} is not built yet; use host, none or ns:PATH")
    raise RequestError(f"network {text!r}: known are default, none, host, ns:PATH")


def _network_plan(option: NamespaceOption) -> NetworkPlan:
    if option.host:
        return NetworkPlan("host")
    return NetworkPlan("path", option.path) if option.path else NetworkPlan("none")


def _hostname(draft: Draft, request: RunRequest) -> None:
    name = ""
    if draft.namespaces.get("uts") == "":
        name = request.hostname or request.image.hostname or draft.container_id[:12]
    draft.spec["hostname"] = name
    if name and "HOSTNAME" not in draft.env:  # row S12
        draft.env["HOSTNAME"] = name
        draft.process["env"].append(f"HOSTNAME={name}")
