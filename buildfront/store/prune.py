"""The cache mounts of a store, listed and removed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..durations import parse_duration
from ..errors import BuildError, nearest
from .caches import CacheRow
from .image_store import Store

CACHE_MOUNT = "exec.cachemount"
"""The type of a cache mount's record in docker buildx."""

FILTERS = ("type", "id", "until")


@dataclass(frozen=True)
class CacheMount:
    """One directory of a cache mount.

    An id has several where builds did not share one, or where they start with other contents.

    Attributes:
        id: The id of ``RUN --mount=type=cache``.
        name: The name of the directory that holds all instances of this cache.
        instance: The number of the instance, from 0.
        size: The size on disk in bytes.
        last_used: The time of the last use, in RFC 3339.
        in_use: Whether a build uses it now.
        path: The path of the directory.
    """

    id: str
    name: str
    instance: int
    size: int
    last_used: str
    in_use: bool
    path: str


def _cache_mount(row: CacheRow) -> CacheMount:
    used = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.used))
    return CacheMount(row.id, row.name, row.instance, row.size, used, row.in_use, row.path)


def cache_mounts_of(store: Store) -> list[CacheMount]:
    """Return the cache mounts of an open store, the last used first."""
    return [_cache_mount(row) for row in store.caches.rows()]


def parse_prune_filters(texts: Iterable[str]) -> dict[str, str]:
    """Return the filters of :func:`prune` by their keys. Raises BuildError for an unknown or malformed one."""
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
                hint=f"only cache mounts are pruned: {CACHE_MOUNT}",
                status=2,
            )
        if key == "until":
            try:
                parse_duration(value)
            except BuildError as error:
                raise BuildError(f"--filter {text}: {error.what}", hint=error.hint, status=2) from None
        found[key] = value
    return found


def prune(filters: Iterable[str] = (), root: str | None = None) -> list[CacheMount]:
    """Remove the cache mounts that no build uses now and that pass all filters; return those that were removed.

    Args:
        filters: ``id=ID``, ``until=24h`` (not used for that long), or ``type=exec.cachemount`` (all of them).
        root: The store.

    Raises:
        BuildError: A filter is unknown or malformed, or the store can't be written.
    """
    wanted = parse_prune_filters(filters)
    limit = time.time() - parse_duration(wanted["until"]) / 1e9 if "until" in wanted else None
    removed = []
    with Store(root) as store, store.session() as session:
        for row in store.caches.rows(
            lambda identity, used: wanted.get("id", identity) == identity and (limit is None or used <= limit)
        ):
            if store.caches.remove(session, row):
                removed.append(replace(_cache_mount(row), in_use=False))
    return removed
