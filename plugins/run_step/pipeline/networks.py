"""The network of a step that has its own namespace (rows S42, S76 to X79), decided by what this host has.

A named network is a CNI configuration; ``private`` is the first of them, else the built-in bridge, and for whoever is
not root of the machine a network in user space. How a network is made is not decided here.
"""

from __future__ import annotations

from typing import Any

from ..defaults import user_mode
from ..documents import SPECIFICATION, parse
from ..errors import HostError
from ..host import HostFacts, TextFile
from ..network_terms import CNI_CONFIG_DIRS, CNI_PLUGIN_DIRS, USER_MODE
from ..planning import NetworkPlan
from ..request import NamespaceOption, RunRequest
from .draft import Draft
from .files import keeps_own

_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


def choose(draft: Draft, option: NamespaceOption, request: RunRequest, host: HostFacts) -> NetworkPlan:
    """Return the network plan. Raises HostError, with a remedy, for a network that this host can't have."""
    if option.host:
        return NetworkPlan("host")
    if option.path.startswith("/"):
        return NetworkPlan("path", option.path)
    if option.path:
        return _cni(request, host, tuple(option.path.split(",")))
    mode = request.network
    if mode == "none":
        return NetworkPlan(mode)
    if mode not in ("bridge", *USER_MODE):
        mode = _private(draft, host)
    if mode == "cni":
        first = next(iter(configurations(host.cni)))
        return _cni(request, host, (first,))
    _check(mode, host)
    if mode == "slirp4netns" and host.is_ipv6_only:
        draft.warnings.append(
            "slirp4netns has only IPv4, and only IPv6 leads out of this machine; use --network pasta (package passt)"
        )
    return NetworkPlan(mode)


def _is_network_root(host: HostFacts) -> bool:
    return host.is_machine_root and "NET_ADMIN" in host.capabilities


def _private(draft: Draft, host: HostFacts) -> str:
    if draft.isolation == "rootless" or not _is_network_root(host):
        name, against = user_mode(host)
        if name:
            return name
        for helper, why in against:
            if why == host.no_tun:
                raise HostError(_without_tun(helper, host))
        if draft.isolation == "rootless":
            raise HostError(
                "a private network of a rootless step needs slirp4netns or pasta; install one, or use --network host "
                "or none"
            )
        raise HostError(
            "a private network needs root of the machine, or slirp4netns or pasta; install one, or use --network host "
            "or none"
        )
    return "cni" if configurations(host.cni) else "bridge"


def _check(mode: str, host: HostFacts) -> None:
    if mode == "bridge" and not _is_network_root(host):
        raise HostError(
            "network 'bridge' needs root of the machine (CAP_NET_ADMIN); use --network slirp4netns, pasta, host or none"
        )
    there = {"slirp4netns": host.has_slirp4netns, "pasta": host.has_pasta}
    if not there.get(mode, True):
        package = {"slirp4netns": "slirp4netns", "pasta": "passt"}[mode]
        raise HostError(f"{mode} was not found on PATH; install {package}, or use --network host or none")
    if mode in USER_MODE and host.no_tun:
        raise HostError(_without_tun(mode, host))


def _without_tun(name: str, host: HostFacts) -> str:
    return f"{name} needs a tap device, but {host.no_tun}; or use --network host or none"


def _cni(request: RunRequest, host: HostFacts, names: tuple[str, ...]) -> NetworkPlan:
    if not _is_network_root(host):
        raise HostError(
            f"CNI networks ({', '.join(names)}) need root of the machine (CAP_NET_ADMIN); use --network slirp4netns, "
            "pasta, host or none"
        )
    known = configurations(host.cni)
    chosen = []
    for name in names:
        if name not in known:
            places = ", ".join(request.cni_config_dirs or CNI_CONFIG_DIRS)
            hint = f"known are {', '.join(known)}" if known else "no network is configured"
            broken = _broken(host.cni)
            raise HostError(f"no CNI configuration in {places} has the network {name!r}; {hint}{broken}")
        config = known[name]
        version = config["cniVersion"]
        if version not in _VERSIONS:
            raise HostError(
                f"the CNI network {name!r} is of version {version}; known are {', '.join(_VERSIONS)}"
            )
        runtime = _runtime_config(request, name)
        chosen.append({**config, **({"runtimeConfig": runtime} if runtime else {})})
    plugins = request.cni_plugin_dirs or CNI_PLUGIN_DIRS
    return NetworkPlan(
        "cni", names=names, configs=tuple(chosen), plugin_dirs=plugins, own_dns=not request.dns
    )


def _runtime_config(request: RunRequest, name: str) -> dict[str, Any]:
    """Return the settings for plugins with the capability (CNI conventions, "Dynamic Plugin specific fields")."""
    out: dict[str, Any] = {}
    servers = () if keeps_own(request.dns) else request.dns
    if servers or request.dns_search or request.dns_options:
        out["dns"] = {
            "servers": list(servers),
            "searches": list(request.dns_search),
            "options": list(request.dns_options),
        }
    if request.hostname:
        out["aliases"] = {name: [request.hostname]}
    return out


def configurations(files: tuple[TextFile, ...]) -> dict[str, dict[str, Any]]:
    """Return the networks by name; the first file of a name counts, and invalid or unreadable files are skipped."""
    out: dict[str, dict[str, Any]] = {}
    for item in files:
        value = _load(item)
        if not isinstance(value, str):
            out.setdefault(value["name"], value)
    return out


def _broken(files: tuple[TextFile, ...]) -> str:
    wrong = [f"{item.path}: {value}" for item in files if isinstance(value := _load(item), str)]
    return "".join(f"; {text}" for text in wrong)


def _load(item: TextFile) -> dict[str, Any] | str:
    """Return a network as a list of plugins, or the error in the file. A ``.conf`` file is one plugin."""
    if item.error:
        return item.error
    try:
        value = parse(item.text, limit=SPECIFICATION)
    except ValueError as error:
        return f"it is not JSON ({error})"
    if not isinstance(value, dict):
        return "it is not a JSON object"
    plugins = value.get("plugins") if item.path.endswith(".conflist") else [value]
    if not isinstance(plugins, list) or not plugins:
        return "it has no plugins"
    if not all(isinstance(plugin, dict) and _is_name(plugin.get("type")) for plugin in plugins):
        return "a plugin has no type"
    for plugin in plugins:
        if not isinstance(plugin.get("capabilities") or {}, dict):
            return f"the capabilities of the plugin {plugin['type']} are not a JSON object"
    name = value.get("name")
    if not isinstance(name, str) or not name:
        return "it has no name"
    return {
        "name": name,
        "cniVersion": str(value.get("cniVersion") or "0.1.0"),
        "plugins": plugins,
    }


def _is_name(value: Any) -> bool:
    """Whether the value names a program in a plugin directory, and is not a path that leads elsewhere."""
    return (
        isinstance(value, str) and value.isprintable() and "/" not in value and value not in ("", ".", "..")
    )
