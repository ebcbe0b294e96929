"""The image that a stage starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .descriptor import Layer


@dataclass(frozen=True)
class BaseImage:
    """An image of the store that a stage starts from, or that COPY reads.

    ``manifest`` and ``config_digest`` are digests, ``config`` is the image config as JSON values.
    """

    reference: str
    manifest: str
    config_digest: str
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
