"""Programs of the machine that do a part of the work: OCI runtimes, newuidmap, slirp4netns, pasta."""

from __future__ import annotations

import os

_RUNTIME_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin")
"""Where distributions put OCI runtimes, which an ordinary user's PATH may lack."""


def which(name: str) -> str | None:
    """Return the path of a program on PATH, or None."""
    return _find(name, os.environ.get("PATH", os.defpath).split(":"))


def find_runtime(name: str) -> str | None:
    """Return the path of an OCI runtime on PATH or in the directories where distributions put them, or None.

    A ``name`` with a slash is a path.
    """
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    return _find(name, [*os.environ.get("PATH", "").split(":"), *_RUNTIME_PLACES])


def _find(name: str, places: list[str]) -> str | None:
    for place in places:
        path = os.path.join(place or ".", name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None
