"""Proposals for a source of COPY that is not there: a name of the same directory that is written almost so."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable

from run_step import Root

from ..errors import closest

_MOST = 10_000
"""The most names of a directory that are compared. Only an error needs them, and there may be any number."""
_CLOSE = 0.7


def proposal(root: Root, path: str, excludes: Callable[[str], bool]) -> str:
    """Return ``did you mean X?`` for a relative path that is not in ``root``, or the empty string.

    ``X`` is a path that exists and that ``excludes`` does not leave out. A name that differs only in case is the first
    choice.
    """
    parts = [part for part in path.split("/") if part]
    found = ""
    for at, part in enumerate(parts):
        here = posixpath.join(found, part)
        if root.stat(here) is None:
            name = _similar(
                part, [name for name in _names(root, found) if not excludes(posixpath.join(found, name))]
            )
            meant = posixpath.join(found, name, *parts[at + 1 :])
            return f"did you mean {meant}?" if name and root.stat(meant) is not None else ""
        found = here
    return ""


def _similar(name: str, names: list[str]) -> str:
    """Return the closest of ``names``, whatever their case, or the empty string for none that is so close."""
    by_lower = {other.lower(): other for other in reversed(names)}
    return by_lower.get(closest(name.lower(), list(by_lower), cutoff=_CLOSE), "")


def _names(root: Root, directory: str) -> list[str]:
    try:
        fd = root.open(directory or "/", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        names = os.listdir(fd)
    except OSError:
        return []
    finally:
        os.close(fd)
    return sorted(names)[:_MOST]
