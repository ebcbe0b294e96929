"""What a store holds beside its images, and what of it can go: ``buildfront info`` and ``prune``."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BuildError, nearest
from .caches import CacheRow
from .image_store import Store

CACHE_MOUNT = "exec.cachemount"
"""The type of a cache mount's record, as buildx calls it."""

FILTERS = ("type", "id", "until")


@dataclass(frozen=True)
class CacheMount:
    """One instance of a cache mount. ``size`` is bytes on disk, ``last_used`` RFC 3339; ``in_use`` by a build that
    runs now. One ``id`` has several where builds did not share, or a cache starts with something else."""

    id: str
    name: str
    instance: int
    size: int
    last_used: str
    in_use: bool
    path: str


def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _of(row: CacheRow) -> CacheMount:
    return CacheMount(row.id, row.name, row.instance, row.size, _stamp(row.used), row.in_use, row.path)


def cache_mounts(root: str | None = None) -> list[CacheMount]:
    """The cache mounts of a store, those used last first."""
    with Store(root) as store:
        return [_of(row) for row in store.caches.rows()]


def info(root: str | None = None) -> dict[str, Any]:
    """The store in numbers, as JSON values: where it is, how it keeps snapshots, what it holds (bytes)."""
    from .. import __version__

    with Store(root) as store:
        blobs = [entry.stat().st_size for entry in os.scandir(store.blobs)]
        return {
            "version": __version__,
            "root": store.root,
            "snapshots": {
                "driver": store.catalogue.meta("snapshots") or "",
                "count": len(os.listdir(os.path.join(store.root, "snapshots"))),
            },
            "images": len(store.index.read()),
            "blobs": {"count": len(blobs), "size": sum(blobs)},
            "cache_mounts": [vars(_of(row)) for row in store.caches.rows()],
        }


def parse_filters(texts: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` of ``--filter``. Raises BuildError for what is not known."""
    from ..dockerfile.parse import duration

    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if key not in FILTERS or not equals or not value:
            hint = nearest(key, FILTERS) or f"known are {', '.join(name + '=…' for name in FILTERS)}"
            raise BuildError(f"--filter {text}: unknown filter", hint=hint, status=2)
        if key in found:
            raise BuildError(f"--filter {text}: {key} is given twice", status=2)
        if key == "type" and value != CACHE_MOUNT:
            raise BuildError(
                f"--filter {text}: unknown type",
                hint=f"cache mounts alone are pruned: {CACHE_MOUNT}",
                status=2,
            )
        if key == "until":
            try:
                duration(value)
            except BuildError as error:
                raise BuildError(f"--filter {text}: {error.what}", hint=error.hint, status=2) from None
        found[key] = value
    return found


def prune(filters: tuple[str, ...] = (), root: str | None = None) -> list[CacheMount]:
    """Remove the cache mounts that no build uses now and that all filters let through; returns what was removed.

    ``id=ID``; ``until=24h``: not used for so long; ``type=exec.cachemount``, which all of them are.
    Raises BuildError for a filter that is not known.
    """
    from ..dockerfile.parse import duration

    wanted = parse_filters(filters)
    limit = time.time() - duration(wanted["until"]) / 1e9 if "until" in wanted else None
    removed = []
    with Store(root) as store, store.session() as session:
        for row in store.caches.rows(
            lambda identity, used: wanted.get("id", identity) == identity and (limit is None or used <= limit)
        ):
            if store.caches.remove(session, row):
                removed.append(replace(_of(row), in_use=False))
    return removed
