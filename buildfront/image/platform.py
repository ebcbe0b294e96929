"""Platforms, ``os/architecture[/variant]``, in Go's words (OCI image spec, image-index.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..errors import BuildError

_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


def host() -> str:
    """Return the platform of this machine."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def normalise(text: str) -> str:
    """Return a platform in the form ``linux/amd64``; ``amd64`` means linux. Raise BuildError if it is malformed."""
    parts = text.lower().split("/")
    if not all(parts) or len(parts) > 3:
        raise BuildError(
            f"invalid platform {text!r}", hint="the form is OS/ARCH[/VARIANT], as in linux/arm64"
        )
    if len(parts) == 1:
        parts = ["linux", parts[0]]
    aliases = {"x86_64": "amd64", "aarch64": "arm64", "x86-64": "amd64"}
    parts[1] = aliases.get(parts[1], parts[1])
    if parts[1:] == ["arm64", "v8"]:
        parts.pop()
    return "/".join(parts)


def of(value: Mapping[str, object]) -> str:
    """Return the platform of a manifest's descriptor or of an image config."""
    variant = value.get("variant")
    text = f"{value.get('os', 'linux')}/{value.get('architecture', '')}"
    return normalise(f"{text}/{variant}" if variant else text)


def to_json(platform: str) -> dict[str, str]:
    """Return ``{"architecture": ..., "os": ..., "variant": ...}``."""
    names = ("os", "architecture", "variant")
    return dict(zip(names, platform.split("/"), strict=False))
