"""Images into the store and out of it: archives, root filesystems, registries."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import BinaryIO

from .. import image_transfer, rootfs_import
from ..image import platform as platforms
from ..store.image_store import Store

Report = Callable[[str], None]


def load(
    source: str | BinaryIO, *, names: tuple[str, ...] = (), platform: str = "", root: str | None = None
) -> list[str]:
    """Load the images of an archive or an image layout, and return their names, or the digests of those without one.

    Args:
        source: The path of an OCI or docker archive or of an image layout directory, or a stream with an archive.
        names: Names that replace the archive's own.
        platform: Which image of an index, ``os/architecture``; by default this machine's platform.
        root: The store.

    Raises:
        BuildError: The archive is damaged or of another kind. The store is then as it was.
    """
    chosen = platforms.normalise(platform) if platform else ""
    with Store(root) as store:
        if isinstance(source, str):
            return image_transfer.load(store, source, names=names, platform=chosen)
        with store.session() as session:
            path = session.place("load")
            with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as spool:
                shutil.copyfileobj(source, spool, 1 << 20)
            return image_transfer.load(store, path, names=names, platform=chosen)


def import_rootfs(
    path: str, name: str, *, platform: str = "", message: str = "", root: str | None = None
) -> str:
    """Make an image of one layer from a tar of a root filesystem, and return the digest of its manifest.

    Args:
        path: The tar, plain or compressed.
        name: The name of the image.
        platform: The platform of the root filesystem; by default this machine's.
        message: The comment in the image's history.
        root: The store.

    Raises:
        BuildError: The tar is damaged. The store is then as it was.
    """
    chosen = platforms.normalise(platform) if platform else ""
    with Store(root) as store:
        return rootfs_import.import_rootfs(store, path, name, platform=chosen, message=message).digest


def pull(name: str, *, platform: str = "", report: Report | None = None, root: str | None = None) -> str:
    """Pull an image from its registry under its name, and return the digest of its manifest.

    Blobs that the store has are not fetched again.

    Args:
        name: The name of the image, as in ``FROM``.
        platform: Which image of an index; by default this machine's platform.
        report: Called with a line of text for each thing that is fetched, from any thread.
        root: The store.

    Raises:
        BuildError: The registry can't be reached, refuses, or does not have the image. The store is then as it was.
    """
    chosen = platforms.normalise(platform) if platform else ""
    with Store(root) as store:
        return image_transfer.pull(store, name, platform=chosen, report=report).digest


def push(name: str, target: str = "", *, report: Report | None = None, root: str | None = None) -> str:
    """Push an image of the store to a registry, and return the digest of its manifest.

    Args:
        name: The image.
        target: The name to push it under, by default ``name``.
        report: Called with a line of text for each thing that is sent, from any thread.
        root: The store.

    Raises:
        BuildError: The image is missing or damaged, which is found before anything is sent, or the registry can't be
            reached or refuses.
    """
    with Store(root) as store:
        return image_transfer.push(store, name, target, report=report)
