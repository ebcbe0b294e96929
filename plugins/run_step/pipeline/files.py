"""The files that are made for a step: hosts, resolv.conf, hostname, .containerenv (rows S50 to S53)."""

from __future__ import annotations

import ipaddress
import posixpath
import stat

from ..errors import RequestError
from ..host import HostFacts
from ..network_terms import ADDRESS, GATEWAY, USER_ADDRESS, USER_MODE, USER_RESOLVER
from ..planning import GeneratedFile, PutFile
from ..request import RunRequest
from .draft import Draft
from .run_mounts import destination
from .volumes import parse_mount, parse_volume

HEADER = "# Made by buildfront for this step\n"


_OWN = {"bridge", "cni"}
"""Networks in which the machine has an address of its own, known when the network is made."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Plan the files and their bind mounts.

    Neither hosts nor resolv.conf is bound if another mount has its place. Without a network there is no
    resolv.conf, and the hosts file has only localhost.
    """
    taken = _taken(draft, request)
    _hosts(draft, request, host, taken)
    _resolv_conf(draft, request, host, taken)
    # A RUN may write to /etc/hostname, and the layer keeps that, as in BuildKit; unless a name was set for
    # steps only.
    if request.hostname and draft.spec["hostname"] and not request.no_hostname:
        _bind(draft, "hostname", draft.spec["hostname"] + "\n", "/etc/hostname", 0o644)
    _bind(draft, "containerenv", "", "/run/.containerenv", 0o644)


def _taken(draft: Draft, request: RunRequest) -> set[str]:
    """Return the destinations of mounts of the image, the request and devices."""
    return {
        *(posixpath.normpath("/" + volume.lstrip("/")) for volume in request.image.volumes),
        *(parse_volume(text).destination for text in request.volumes),
        *(parse_mount(text).destination for text in request.mounts),
        *(destination(item, draft.process["cwd"]) for item in request.run_mounts),
        *(item["destination"] for item in draft.extra_mounts),
    }


def _hosts(draft: Draft, request: RunRequest, host: HostFacts, taken: set[str]) -> None:
    mode = draft.network.mode
    if request.no_hosts or "/etc/hosts" in taken:
        hosts_text("", request.add_hosts, "")  # only to check the syntax: this network has no use for them
        return
    if mode == "none":
        hosts_text("", request.add_hosts, "")  # only to check the syntax: without a network they lead nowhere
        text = hosts_text("", (), draft.spec["hostname"])
        if taken & {"/etc", "/"}:
            _bind(draft, "hosts", text, "/etc/hosts", host.hosts_mode)
        else:
            _put(draft, "hosts", text, "/etc/hosts", host.hosts_mode)
        return
    own = ADDRESS if mode in _OWN else USER_ADDRESS if mode in USER_MODE else ""
    text = hosts_text(host.hosts, request.add_hosts, draft.spec["hostname"], _gateway(mode, host), own)
    _bind(draft, "hosts", text, "/etc/hosts", host.hosts_mode)


def _resolv_conf(draft: Draft, request: RunRequest, host: HostFacts, taken: set[str]) -> None:
    if keeps_own(request.dns):
        return
    mode = draft.network.mode
    given = (request.dns, request.dns_search, request.dns_options)
    if mode == "none" or "/etc/resolv.conf" in taken:
        resolv_text("", *given)  # only to check the syntax
        return
    known = host.resolv_conf
    if mode != "host":
        known = reachable(known, host.resolv_conf_upstream)
    # pasta's resolver asks the host's first IPv4 server, even on the host's loopback. Without one it does not
    # answer.
    servers = _servers(host.resolv_conf)
    forwarded = mode in USER_MODE and any(_version(item) == 4 and ":" not in item for item in servers)
    _bind(
        draft,
        "resolv.conf",
        resolv_text(known, *given, USER_RESOLVER if forwarded else ""),
        "/etc/resolv.conf",
        0o644,
    )
    if not request.dns and not forwarded:
        _warn(draft, host, known)


def _warn(draft: Draft, host: HostFacts, known: str) -> None:
    """Warn of a step that can't resolve names, if that is certain and due to its network.

    Networks of CNI plugins may bring name servers of their own.
    """
    mode = draft.network.mode
    versions = {_version(item) for item in _servers(known)} - {0}
    if mode in ("host", "cni") or versions - ({6} if mode == "slirp4netns" else set()):
        return
    named = ", ".join(_servers(host.resolv_conf))
    if versions:
        why = f"slirp4netns has only IPv4 and does not reach the host's name servers ({named})"
        remedy = "give one with --dns, or use --network pasta"
    else:
        why = (
            f"the step's network does not reach the host's name servers ({named})"
            if named
            else "the host's /etc/resolv.conf has no name server for the step"
        )
        remedy = "give one with --dns"
    draft.warnings.append(f"{why}; {remedy}")


def keeps_own(dns: tuple[str, ...]) -> bool:
    """Whether the step has the image's own resolv.conf (``--dns none``)."""
    return bool(dns) and all(server.lower() == "none" for server in dns)


def _gateway(mode: str, host: HostFacts) -> str:
    """Return the address by which a step reaches the host, or a placeholder for it; empty if it is unknown."""
    if mode == "host":
        return "127.0.0.1"
    if mode in _OWN:
        return GATEWAY
    return host.address if mode in USER_MODE else ""


def reachable(text: str, upstream: str) -> str:
    """Return a resolv.conf for another network namespace: without the name servers that only the host's reaches.

    Such a server is systemd-resolved's stub. If no server is left, the text ``upstream`` is used instead.
    Other lines stay.
    """
    kept = _without_own(text)
    if upstream and not any(_version(item) for item in _servers(kept)):
        return _without_own(upstream)
    return kept


def _without_own(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not any(map(_is_hosts_own, _servers(line))))


def _is_hosts_own(server: str) -> bool:
    """Whether a name server can't be reached from another network namespace.

    It is on the loopback, which resolvers also use for the unspecified address, or on a link of the host. A
    link-local IPv4 address is translated and so can be reached, as clouds need it.
    """
    found = _address(server)
    if found is None:
        return False
    on_link = found.version == 6 and (found.is_link_local or "%" in server)
    return found.is_loopback or found.is_unspecified or on_link


def _address(server: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(server)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _version(server: str) -> int:
    """Return the IP version of an address; 0 for a text that is not an address."""
    found = _address(server)
    return found.version if found is not None else 0


def _words(line: str) -> list[str]:
    """Return the words of a line of resolv.conf(5), without its comment."""
    return line.partition("#")[0].partition(";")[0].split()


def _servers(text: str) -> list[str]:
    return [words[1] for words in map(_words, text.splitlines()) if words[:1] == ["nameserver"] and words[1:]]


def _bind(draft: Draft, name: str, content: str, destination: str, mode: int) -> None:
    draft.files.append(GeneratedFile(name, content, mode, *draft.container_root))
    draft.bound.append((name, destination))


def _put(draft: Draft, name: str, content: str, destination: str, mode: int) -> None:
    """Write a file into the image's place instead of binding it.

    Without a network nothing is mounted in /etc, so that a step may rename the whole directory.
    """
    status = draft.root.lstat(destination)
    if status is None or not stat.S_ISDIR(status.st_mode):
        draft.files.append(GeneratedFile(name, content, mode, *draft.container_root))
        draft.actions.append(PutFile(name, destination))


def _is_word(text: str) -> bool:
    """Whether ``text`` is read back unchanged from a line: no blanks, no line break, no comment."""
    return text.split() == [text] and "#" not in text


def _localhost(host: str) -> list[str]:
    """Return the lines of localhost that a hosts file lacks."""
    found = {
        str(_address(words[0]))
        for words in (line.partition("#")[0].split() for line in host.splitlines())
        if "localhost" in (word.lower() for word in words[1:])
    }
    return [f"{address}\tlocalhost\n" for address in ("127.0.0.1", "::1") if address not in found]


def hosts_text(
    host: str, entries: tuple[str, ...], hostname: str, gateway: str = "127.0.0.1", own: str = ""
) -> str:
    """Return the hosts file: the host's lines, each entry as address TAB name, then the hostname.

    The hostname is on the step's ``own`` address, if there is one, and on both loopback addresses. localhost
    is on both loopback addresses, whatever the host's file says. ``gateway`` and ``own`` may be placeholders
    (:mod:`run_step.network`).

    Raises RequestError for an entry without a colon, a name or an address.
    """
    out = [HEADER, *_localhost(host), host if host.endswith("\n") or not host else host + "\n"]
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
            raise RequestError(f"host entry {entry!r}: {name!r} is not a host name")
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
    """Return resolv.conf: name servers, search list and options, each as given or the host's (resolv.conf(5)).

    ``own`` is the network's own resolver, which comes before the host's. Raises RequestError for a server
    that is not an IP address.
    """
    for server in servers:
        if server.lower() == "none":
            others = ", ".join(item for item in servers if item.lower() != "none")
            raise RequestError(
                f"DNS server {server!r} keeps the image's own /etc/resolv.conf, so it can't stand beside {others}; "
                "leave one of them out"
            )
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
        words = _words(line)
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
