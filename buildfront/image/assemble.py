"""The image config of a stage (OCI image spec, config.md). It depends on the arguments only."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import platform as platforms
from .descriptor import Layer


class HistoryLine(NamedTuple):
    """A line of the history. ``layer``: whether it has one. ``created``: seconds since the epoch, or None."""

    created_by: str
    layer: bool
    created: int | None


def rfc3339(seconds: int) -> str:
    """Return a time in seconds since the epoch as RFC 3339 writes it, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def image_config(
    *,
    config: Mapping[str, Any],
    platform: str,
    author: str,
    base: Mapping[str, Any],
    layers: Sequence[Layer],
    history: Sequence[HistoryLine],
    created: int | None,
) -> dict[str, Any]:
    """Return the config of a new image. ``base`` is the config of the image that it started from, empty for scratch.

    ``created`` None keeps the time of the base, so that a build that changes nothing gives the same image again.
    """
    now = rfc3339(created) if created is not None else str(base.get("created") or rfc3339(0))
    out: dict[str, Any] = {**platforms.to_json(platform), "created": now}
    for name in ("os.version", "os.features", "variant"):
        if name in base and name not in out:
            out[name] = base[name]
    if author:
        out["author"] = author
    out["config"] = {key: value for key, value in config.items() if value not in (None, "", [], {})}
    out["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    lines = list(base.get("history") or [])
    moment = str(base.get("created") or rfc3339(0))
    for line in history:
        moment = rfc3339(line.created) if line.created is not None else moment
        entry: dict[str, Any] = {"created": moment, "created_by": line.created_by, "comment": "buildfront"}
        if not line.layer:
            entry["empty_layer"] = True
        lines.append(entry)
    out["history"] = lines
    return out
