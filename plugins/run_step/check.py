"""A request's options checked without a root filesystem: for frontends that refuse bad values at their edge."""

from __future__ import annotations

from .errors import RequestError
from .pipeline.capabilities import known
from .pipeline.files import hosts_text, resolv_text
from .pipeline.mounts import parse_size, parse_volume
from .pipeline.namespaces import network_option
from .pipeline.rlimits import parse
from .request import ISOLATIONS, RunRequest


def size(text: str, what: str) -> int:
    """``64m`` in bytes; ``-1`` is unlimited. Raises RequestError that quotes ``text``."""
    return -1 if text == "-1" else parse_size(text, what)


def options(request: RunRequest) -> None:
    """Raises RequestError for the first malformed or unknown value, quoted, with the form that is wanted."""
    if request.isolation not in ("", "auto", *ISOLATIONS):
        raise RequestError(
            f"unknown isolation {request.isolation!r}; known are auto, {', '.join(ISOLATIONS)}"
        )
    for text in request.ulimits:
        parse(text)
    for text in request.volumes:
        parse_volume(text)
    for text in (*request.cap_add, *request.cap_drop):
        if text.lower() != "all":
            known(text)
    if request.shm_size:
        parse_size(request.shm_size, "shm size")
    network_option(request.network)
    hosts_text("", request.add_hosts, "")
    if not (len(request.dns) == 1 and request.dns[0].lower() == "none"):
        resolv_text("", request.dns, request.dns_search, request.dns_options)
