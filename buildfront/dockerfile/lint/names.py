"""Image references and platforms, as far as rules read them; the image itself is none of their business."""

from __future__ import annotations

import re
from typing import NamedTuple

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_HEX = re.compile(r"[0-9a-f]{64}")
_LONGEST = 1 << 12
"""Characters: no name of an image is longer."""

_PLATFORM_PART = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEMS = (
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos"
).split()
_ARCHITECTURES = (
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32"
    " mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm"
).split()
_SAME = {
    "i386": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
}


class ImageName(NamedTuple):
    """The parts of a reference; empty where it has none."""

    name: str
    tag: str
    digest: str


def image_name(text: str) -> ImageName | None:
    """Return the parts of an image's name; None where it can't be one."""
    if not text or len(text) > _LONGEST or _HEX.fullmatch(text):
        return None
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        return None
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    name, tag = (rest[:colon], rest[colon + 1 :]) if colon >= 0 else (rest, "")
    if colon >= 0 and not _TAG.fullmatch(tag):
        return None
    host, cut, path = name.partition("/")
    if cut and (any(char in host for char in ".:") or host == "localhost" or host != host.lower()):
        if not _HOST.fullmatch(host):
            return None
    else:
        path = name
    return ImageName(name, tag, digest) if _PATH.fullmatch(path) and len(path) <= 255 else None


def platform_parts(text: str, here: str) -> tuple[str, str] | None:
    """Return the system and the architecture of ``os[/arch[/variant]]``; None where it is no platform.

    What is left out is that of ``here``.
    """
    parts = text.split("/")
    if len(parts) > 3 or not all(_PLATFORM_PART.fullmatch(part) for part in parts):
        return None
    first = parts[0].lower()
    own_system, own_architecture = [*here.split("/"), ""][:2]
    if len(parts) > 1:
        second = parts[1].lower()
        return ("darwin" if first == "macos" else first), _SAME.get(second, second)
    if first in _SYSTEMS:
        return first, own_architecture
    architecture = _SAME.get(first, first)
    return (own_system, architecture) if architecture in _ARCHITECTURES else None
