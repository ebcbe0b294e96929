"""Platforms, ``os/architecture[/variant]``, in Go's words (OCI image spec, image-index.md)."""

from __future__ import annotations

import os
import re
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

_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris windows".split()
)
_ARCHITECTURES = frozenset(
    "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x sparc64 wasm".split()
)
"""Names of Go, by which a word is told to be a system or an architecture."""

_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "armhf": "arm/v7",
    "armel": "arm/v6",
    "macos": "darwin",
}
_WORD = re.compile(r"[a-z0-9_.-]+", re.ASCII)


def host() -> str:
    """Return the platform of this machine."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def normalise(text: str) -> str:
    """Return a platform in the form ``linux/amd64``; ``amd64`` means linux. Raise BuildError if it is malformed."""
    parts = [_ALIASES.get(part, part) for part in text.lower().split("/")]
    if len(parts) == 1 and parts[0] in _SYSTEMS:
        parts += host().split("/")[1:]
    elif len(parts) == 1 and parts[0].split("/")[0] in _ARCHITECTURES:
        parts = ["linux", parts[0]]
    if not all(map(_WORD.fullmatch, "/".join(parts).split("/"))) or not 1 < len(parts) <= 3:
        raise BuildError(
            f"invalid platform {text!r}", hint="the form is OS/ARCH[/VARIANT], as in linux/arm64"
        )
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
