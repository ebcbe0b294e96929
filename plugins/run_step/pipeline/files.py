"""The files that a step finds made for it: hosts, resolv.conf, hostname, .containerenv (rows S50 to S53)."""

from __future__ import annotations

import ipaddress

from ..errors import RequestError
from ..host import HostFacts
from ..planning import Draft, GeneratedFile
from ..request import RunRequest

HEADER = "# Made by buildfront for this step\n"


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Neither hosts nor resolv.conf is bound where the image declares it a volume or there is no network."""
    networked = draft.network.mode != "none"
    volumes = request.image.volumes
    hosts = hosts_text(host.hosts, request.add_hosts, draft.spec["hostname"])
    if networked and not request.no_hosts and "/etc/hosts" not in volumes:
        _bind(draft, "hosts", hosts, "/etc/hosts", host.hosts_mode)
    keep_own = len(request.dns) == 1 and request.dns[0].lower() == "none"
    if not keep_own:
        resolv = resolv_text(host.resolv_conf, request.dns, request.dns_search, request.dns_options)
        if networked and "/etc/resolv.conf" not in volumes:
            _bind(draft, "resolv.conf", resolv, "/etc/resolv.conf", 0o644)
    if draft.spec["hostname"] and not request.no_hostname:
        _bind(draft, "hostname", draft.spec["hostname"] + "\n", "/etc/hostname", 0o644)
    _bind(draft, "containerenv", "", "/run/.containerenv", 0o644)


def _bind(draft: Draft, name: str, content: str, destination: str, mode: int) -> None:
    draft.files.append(GeneratedFile(name, content, mode, 0, 0))
    draft.bound.append((name, destination))


def hosts_text(host: str, entries: tuple[str, ...], hostname: str) -> str:
    """The host's file, each entry as address TAB name, then the hostname on both loopback addresses.

    Raises RequestError for an entry without a colon, without a name or without an address.
    """
    out = [HEADER, host if host.endswith("\n") or not host else host + "\n"]
    for entry in entries:
        equals = "=" in entry.partition(":")[0]
        name, colon, address = entry.partition("=" if equals else ":")
        if not colon:
            raise RequestError(f"host entry {entry!r}: the form is NAME:ADDRESS")
        if not name:
            raise RequestError(f"host entry {entry!r}: the name before the colon is missing")
        if not address:
            raise RequestError(f"host entry {entry!r}: the address after the colon is missing")
        if address == "host-gateway":
            address = "127.0.0.1"  # the step shares the builder's network: the host is its own loopback
        bare = address.strip("[]")
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise RequestError(f"host entry {entry!r}: {address!r} is not an IP address") from None
        out.append(f"{bare}\t{name}\n")
    if hostname:
        out.append(f"127.0.0.1 {hostname}\n::1 {hostname}\n")
    return "".join(out)


def resolv_text(
    host: str, servers: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...]
) -> str:
    """Name servers, search list and options, each the given ones or the host's (resolv.conf(5)).

    Raises RequestError for a server that is no IP address.
    """
    for server in servers:
        try:
            ipaddress.ip_address(server.partition("%")[0])
        except ValueError:
            raise RequestError(f"DNS server {server!r} is not an IP address") from None
    found_servers: list[str] = []
    found_search: list[str] = []
    found_options: list[str] = []
    for line in host.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            found_servers.append(words[1])
        elif words[0] in ("search", "domain"):
            found_search = words[1:]
        elif words[0] == "options":
            found_options = words[1:]
    out = ""
    final_search = [item for item in (search or found_search) if item != "."]
    if final_search:
        out += "search " + " ".join(final_search) + "\n"
    out += "".join(f"nameserver {server}\n" for server in (servers or found_servers))
    final_options = list(options or found_options)
    if final_options:
        out += "options " + " ".join(final_options) + "\n"
    return out
