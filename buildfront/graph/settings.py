"""The options that change a graph, and the names that the Dockerfile reference predefines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PROXY_ARGS = frozenset(
    name
    for base in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (base, base.upper())
)
"""Predefined build arguments that need no ARG and never count for the cache (Dockerfile reference)."""

SCRATCH = "scratch"
"""The name of the empty image (Dockerfile reference, FROM)."""

COPY_FROM = "COPY --from="
MOUNT_FROM = "RUN --mount from="
"""The forms that read another stage, as errors quote them."""


@dataclass(frozen=True)
class NamedContext:
    """``--build-context NAME=...``: ``dir`` (a directory), or ``image`` (a reference or an image layout)."""

    kind: str
    value: str


@dataclass(frozen=True)
class GraphOptions:
    """The options of the command line that change the graph. ``platform`` is ``os/arch[/variant]``."""

    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = "linux/amd64"
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()


def platform_args(platform: str) -> dict[str, str]:
    """Return the automatic platform arguments of the Dockerfile reference."""
    system, _, rest = platform.partition("/")
    arch, _, variant = rest.partition("/")
    values = {"": platform, "OS": system, "ARCH": arch, "VARIANT": variant}
    out = {}
    for side in ("TARGET", "BUILD"):
        for suffix, value in values.items():
            out[f"{side}{suffix or 'PLATFORM'}"] = value
    return out
