"""Checks of a request's options without a root filesystem, for frontends that refuse bad values early."""

from __future__ import annotations

from .errors import RequestError
from .option_text import parse_size
from .pipeline import resources
from .pipeline.capabilities import known
from .pipeline.devices import parse as parse_device
from .pipeline.files import hosts_text, keeps_own, resolv_text
from .pipeline.isolation_choice import network_option
from .pipeline.labels import parse as parse_label
from .pipeline.namespaces import hostname
from .pipeline.privileges import additional_group, oom_score, umask
from .pipeline.rlimits import parse
from .pipeline.volumes import parse_mount, parse_volume
from .request import ISOLATIONS, NAMESPACES, IDMapping, NamespaceOption, RunRequest


def size(text: str, what: str) -> int:
    """Return ``64m`` in bytes; ``-1`` is unlimited. Raises RequestError, which quotes ``text``."""
    return -1 if text == "-1" else parse_size(text, what)


def namespace(name: str, text: str) -> NamespaceOption:
    """Parse ``host``, ``private`` (or ``container``), or an absolute path.

    Raises RequestError, which quotes ``text``.
    """
    if name not in NAMESPACES:
        raise RequestError(f"unknown namespace {name!r}; known are {', '.join(NAMESPACES)}")
    if text in ("private", "container", ""):
        return NamespaceOption(name)
    if text == "host":
        return NamespaceOption(name, host=True)
    path = text.removeprefix("ns:")
    if not path.startswith("/") and name != "network":
        raise RequestError(f"{name} namespace {text!r}: it is host, private or an absolute path")
    return NamespaceOption(name, path=path)


def id_map(text: str, flag: str) -> IDMapping:
    """Parse ``CONTAINER:HOST:SIZE``. Raises RequestError, which quotes ``text``."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise RequestError(f"{flag} {text!r}: the form is CONTAINER-ID:HOST-ID:SIZE")
    container, host, count = map(int, parts)
    if count < 1 or max(container, host) + count > 1 << 32:
        raise RequestError(f"{flag} {text!r}: the size is at least 1, and IDs end at 4294967295")
    return IDMapping(container, host, count)


def options(request: RunRequest) -> None:
    """Raise RequestError for the first malformed or unknown value; it quotes the value and shows the format."""
    if request.isolation not in ("", "auto", *ISOLATIONS):
        raise RequestError(
            f"unknown isolation {request.isolation!r}; known are auto, {', '.join(ISOLATIONS)}"
        )
    for text in request.ulimits:
        parse(text)
    for text in request.default_ulimits:
        parse(text)
    for text in request.devices:
        parse_device(text)
    parse_label(request.labels)
    if request.umask:
        umask(request.umask)
    if request.oom_score_adj is not None:
        oom_score(request.oom_score_adj)
    for option in request.namespaces:
        namespace(option.name, "host" if option.host else option.path or "private")
    hostname(request.hostname)
    for text in request.group_add:
        additional_group(text)
    resources.check(request.resources)
    for text in request.volumes:
        parse_volume(text)
    for text in request.mounts:
        parse_mount(text)
    for text in (*request.cap_add, *request.cap_drop):
        if text.lower() != "all":
            known(text)
    if request.shm_size:
        parse_size(request.shm_size, "shm size")
    network_option(request.network)
    hosts_text("", request.add_hosts, "")
    if not keeps_own(request.dns):
        resolv_text("", request.dns, request.dns_search, request.dns_options)
