"""The result of a step."""

from __future__ import annotations

from dataclasses import dataclass

from ..image.base_image import BaseImage


@dataclass(frozen=True)
class Result:
    """The result of a step: a root filesystem, named by its snapshot.

    ``key`` is the step's cache key. ``snapshot`` None with a ``base`` is an image that is not unpacked yet, because
    nothing has needed its files. ``changed`` false: the step left its parent's root filesystem as it was, and has no
    layer. ``cached``: the result is of an earlier build.
    """

    key: str
    snapshot: int | None
    base: BaseImage | None = None
    changed: bool = True
    cached: bool = False
