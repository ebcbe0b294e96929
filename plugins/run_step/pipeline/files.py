"""The files that a step finds made for it: hosts, resolv.conf, hostname, .containerenv (rows S50 to S53)."""

from __future__ import annotations

import ipaddress
import posixpath

from ..errors import RequestError
from ..host import HostFacts
from ..network import ADDRESS, GATEWAY
from ..network.user_mode import ADDRESS as USER_ADDRESS
from ..network.user_mode import RESOLVER
from ..planning import Draft, GeneratedFile
from ..request import RunRequest

HEADER = "# Made by buildfront for this step\n"


_USER_MODE = {"slirp4netns", "pasta"}
_OWN = {"bridge", "cni"}
"""Networks in which the machine has an address of its own, known when they are made."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Neither hosts nor resolv.conf is bound where the image declares it a volume or there is no network."""
    mode = draft.network.mode
    volumes = {posixpath.normpath("/" + volume.lstrip("/")) for volume in request.image.volumes}
    name = draft.spec["hostname"]
    own = ADDRESS if mode in _OWN else USER_ADDRESS if mode in _USER_MODE else ""
    hosts = hosts_text(host.hosts, request.add_hosts, name, _gateway(mode, host), own)
    if mode != "none" and not request.no_hosts and "/etc/hosts" not in volumes:
        _bind(draft, "hosts", hosts, "/etc/hosts", host.hosts_mode)
    keep_own = len(request.dns) == 1 and request.dns[0].lower() == "none"
    if not keep_own:
        resolver = RESOLVER if mode in _USER_MODE else ""
        known = host.resolv_conf if mode == "host" else reachable(host.resolv_conf, host.resolv_conf_upstream)
        resolv = resolv_text(known, request.dns, request.dns_search, request.dns_options, resolver)
        if mode != "none" and "/etc/resolv.conf" not in volumes:
            _bind(draft, "resolv.conf", resolv, "/etc/resolv.conf", 0o644)
            if (
                mode != "host"
                and host.resolv_conf
                and "nameserver" in host.resolv_conf
                and "nameserver" not in resolv
            ):
                draft.warnings.append(
                    "the host's name servers are on its loopback, which the step's network does not reach; give one "
                    "with --dns"
                )
    if draft.spec["hostname"] and not request.no_hostname:
        _bind(draft, "hostname", draft.spec["hostname"] + "\n", "/etc/hostname", 0o644)
    _bind(draft, "containerenv", "", "/run/.containerenv", 0o644)


def _gateway(mode: str, host: HostFacts) -> str:
    """How a step reaches the host, or a token for it; empty where nobody knows."""
    if mode == "host":
        return "127.0.0.1"
    if mode in _OWN:
        return GATEWAY
    return host.address if mode in _USER_MODE else ""


def reachable(text: str, upstream: str) -> str:
    """A resolv.conf for another network namespace: where it names resolvers on the host's loopback alone, as
    systemd-resolved's stub, what those ask, else without them. Its other lines stay."""
    lines = text.splitlines(keepends=True)
    if not any(_is_loopback(line) for line in lines):
        return text
    kept = [line for line in lines if not _is_loopback(line)]
    if upstream and not any(line.split()[:1] == ["nameserver"] for line in kept):
        others = [line for line in upstream.splitlines(keepends=True) if not _is_loopback(line)]
        return "".join(others)
    return "".join(kept)


def _is_loopback(line: str) -> bool:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        return ipaddress.ip_address(words[1].partition("%")[0]).is_loopback
    except ValueError:
        return False


def _bind(draft: Draft, name: str, content: str, destination: str, mode: int) -> None:
    draft.files.append(GeneratedFile(name, content, mode, *draft.container_root))
    draft.bound.append((name, destination))


def _is_word(text: str) -> bool:
    """Whether a line made of ``text`` is read back as that: no blanks, no line break, no comment."""
    return text.split() == [text] and "#" not in text


def hosts_text(
    host: str, entries: tuple[str, ...], hostname: str, gateway: str = "127.0.0.1", own: str = ""
) -> str:
    """The host's file, each entry as address TAB name, then the hostname on the step's ``own`` address, where it has
    one, and on both loopback addresses. ``gateway`` and ``own`` may be tokens (:mod:`run_step.network`).

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
            out.append(f"{gateway}\t{name}\n")
            continue
        bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise RequestError(f"host entry {entry!r}: {address!r} is not an IP address") from None
        out.append(f"{bare}\t{name}\n")
    if hostname:
        out += [f"{own}\t{hostname}\n"] if own else []
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
