"""What passes through the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..image.descriptor import Layer


@dataclass(frozen=True)
class BaseImage:
    """An image of the store that a stage starts from, or that COPY reads."""

    reference: str
    manifest: str
    config_digest: str
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Result:
    """What a step gave. ``snapshot`` None with a ``base`` is an image that nothing has needed unpacked yet.
    ``changed`` false: the step left its parent's root filesystem as it was, and has no layer."""

    key: str
    snapshot: int | None
    base: BaseImage | None = None
    changed: bool = True
    cached: bool = False


@dataclass(frozen=True)
class Event:
    """Something happened. ``kind``: ``start``, ``cached``, ``output``, ``done``, ``failed``, ``warning``, ``info``.

    ``step`` is the step's id, None for the build as a whole. ``data`` depends on the kind and is documented in
    docs/cli.md, "rawjson".
    """

    kind: str
    step: int | None = None
    title: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Context(Protocol):
    """A directory that COPY reads: the build context or a named one."""

    @property
    def path(self) -> str:
        """The directory."""

    def excludes(self, path: str) -> bool:
        """Whether this path counts as absent."""

    @property
    def prune(self) -> bool:
        """Whether an excluded directory need not be entered."""
