"""The contents of a store in numbers."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from ..store.image_store import Store
from ..store.prune import CacheMount, cache_mounts_of
from ..version import __version__


@dataclass(frozen=True)
class StoreInfo:
    """The contents of a store.

    Attributes:
        version: The version of buildfront.
        root: The path of the store.
        snapshot_driver: How root filesystems are kept, ``overlay`` or ``copy``; empty as long as there are none.
        snapshots: The number of root filesystems.
        images: The number of images, each counted once a name.
        blobs: The number of blobs.
        blob_bytes: The size of all blobs.
        cache_mounts: The cache mounts, the last used first.
    """

    version: str
    root: str
    snapshot_driver: str
    snapshots: int
    images: int
    blobs: int
    blob_bytes: int
    cache_mounts: tuple[CacheMount, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values, as ``buildfront info --format json`` prints them."""
        return {
            "version": self.version,
            "root": self.root,
            "snapshots": {"driver": self.snapshot_driver, "count": self.snapshots},
            "images": self.images,
            "blobs": {"count": self.blobs, "size": self.blob_bytes},
            "cache_mounts": [asdict(mount) for mount in self.cache_mounts],
        }


def info(root: str | None = None) -> StoreInfo:
    """Return what a store holds.

    Raises:
        BuildError: The store can't be read.
    """
    with Store(root) as store:
        sizes = [entry.stat().st_size for entry in os.scandir(store.blobs)]
        return StoreInfo(
            version=__version__,
            root=store.root,
            snapshot_driver=store.catalogue.meta("snapshots") or "",
            snapshots=len(os.listdir(os.path.join(store.root, "snapshots"))),
            images=len(store.index.read()),
            blobs=len(sizes),
            blob_bytes=sum(sizes),
            cache_mounts=tuple(cache_mounts_of(store)),
        )
