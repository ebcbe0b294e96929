"""The environment (rows S10, S11): default PATH, then the image's, then the step's, replaced in place."""

from __future__ import annotations

from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of docker build for a step whose image sets none."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Fill ``draft.env`` and the spec. An entry without ``=`` is dropped."""
    merged: dict[str, str] = {}
    if request.http_proxy:
        _assign(merged, host.proxy)
    _assign(merged, (f"PATH={DEFAULT_PATH}",))
    _assign(merged, request.image.env)
    _assign(merged, request.env)
    draft.env = merged
    draft.process["env"] = [f"{name}={value}" for name, value in merged.items()]


def _assign(into: dict[str, str], entries: tuple[str, ...]) -> None:
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals and name:
            into[name] = value
