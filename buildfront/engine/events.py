"""The events of a build, for whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened.

    ``kind`` is ``start``, ``cached``, ``output``, ``done``, ``failed``, ``warning``, ``info`` or ``graph``.
    ``step`` is the step's id, None for the build as a whole. ``data`` depends on the kind and is documented in
    docs/cli.md, "rawjson".
    """

    kind: str
    step: int | None = None
    title: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
"""A subscriber to the events of a build. Several threads may call it."""
