"""The files that a step finds made for it: hosts, resolv.conf, hostname, .containerenv (rows S50 to S53)."""

from __future__ import annotations

import ipaddress
import posixpath

from ..errors import RequestError
from ..host import HostFacts
from ..planning import Draft, GeneratedFile
from ..request import RunRequest

HEADER = "# Made by buildfront for this step\n"


_USER_MODE = ("private", "slirp4netns", "pasta")
_GATEWAYS = {"host": "127.0.0.1", "slirp4netns": "10.0.2.2", "pasta": "10.0.2.2"}
"""How a step reaches the host, where that is known before its network is made."""


def _rootless(draft: Draft) -> str:
    return "slirp4netns" if draft.network.mode in _USER_MODE else draft.network.mode


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Neither hosts nor resolv.conf is bound where the image declares it a volume or there is no network."""
    networked = draft.network.mode != "none"
    volumes = {posixpath.normpath("/" + volume.lstrip("/")) for volume in request.image.volumes}
    gateway = _GATEWAYS.get(draft.network.mode if draft.isolation != "rootless" else _rootless(draft), "")
    hosts = hosts_text(host.hosts, request.add_hosts, draft.spec["hostname"], gateway)
    if networked and not request.no_hosts and "/etc/hosts" not in volumes:
        _bind(draft, "hosts", hosts, "/etc/hosts", host.hosts_mode)
    keep_own = len(request.dns) == 1 and request.dns[0].lower() == "none"
    if not keep_own:
        in_user_space = draft.network.mode == "slirp4netns" or (
            draft.isolation == "rootless" and draft.network.mode in _USER_MODE
        )
        own = "10.0.2.3" if in_user_space else ""
        resolv = resolv_text(host.resolv_conf, request.dns, request.dns_search, request.dns_options, own)
        if networked and "/etc/resolv.conf" not in volumes:
            _bind(draft, "resolv.conf", resolv, "/etc/resolv.conf", 0o644)
    if draft.spec["hostname"] and not request.no_hostname:
        _bind(draft, "hostname", draft.spec["hostname"] + "\n", "/etc/hostname", 0o644)
    _bind(draft, "containerenv", "", "/run/.containerenv", 0o644)


def _bind(draft: Draft, name: str, content: str, destination: str, mode: int) -> None:
    draft.files.append(GeneratedFile(name, content, mode, *draft.container_root))
    draft.bound.append((name, destination))


def _is_word(text: str) -> bool:
    """Whether a line made of ``text`` is read back as that: no blanks, no line break, no comment."""
    return text.split() == [text] and "#" not in text


def hosts_text(host: str, entries: tuple[str, ...], hostname: str, gateway: str = "127.0.0.1") -> str:
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
        if not _is_word(name):
            raise RequestError(f"host entry {entry!r}: {name!r} is no host name")
        if address == "host-gateway":
            if not gateway:
                raise RequestError(f"host entry {entry!r}: host-gateway is not known for this network")
            address = gateway
        bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise RequestError(f"host entry {entry!r}: {address!r} is not an IP address") from None
        out.append(f"{bare}\t{name}\n")
    if hostname:
        out.append(f"127.0.0.1 {hostname}\n::1 {hostname}\n")
    return "".join(out)


def resolv_text(
    host: str, servers: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...], own: str = ""
) -> str:
    """Name servers, search list and options, each the given ones or the host's (resolv.conf(5)).

    ``own`` is the network's own resolver, which comes before the host's.

    Raises RequestError for a server that is no IP address.
    """
    for server in servers:
        try:
            ipaddress.ip_address(server)
        except ValueError:
            raise RequestError(f"DNS server {server!r} is not an IP address") from None
    for what, given in (("search domain", search), ("option", options)):
        for word in given:
            if not _is_word(word):
                raise RequestError(f"DNS {what} {word!r}: one word is wanted")
    found_servers: list[str] = [own] if own else []
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
