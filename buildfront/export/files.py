"""``type=local`` and ``type=tar``: the root filesystem itself. Needs no mount: the layers are applied again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import IO

from run_step import Root

from ..image.compression import layer_reader
from ..image.diff import Comparison
from ..image.layer import Applier, write_tar
from ..image.model import Layer

Opener = Callable[[str], IO[bytes]]


def write_directory(
    directory: str, layers: Sequence[Layer], open_blob: Opener, *, owner: tuple[int, int] | None = None
) -> None:
    """The root filesystem in a directory, made when missing; what is there and not in the image stays.

    ``owner``: who is given all of it, instead of whom the image says.
    """
    os.makedirs(directory, exist_ok=True)
    with Root(directory) as root:
        for layer in layers:
            with open_blob(layer.descriptor.digest) as blob:
                Applier(root, owner=owner).apply(layer_reader(blob, layer.descriptor.media_type))


def write_rootfs_tar(out: IO[bytes], scratch: str, layers: Sequence[Layer], open_blob: Opener) -> None:
    """The root filesystem as one tar. ``scratch`` is an empty directory to unpack into."""
    write_directory(scratch, layers, open_blob)
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_tar(Comparison(complete=True).walk(fd, None), fd, out)
    finally:
        os.close(fd)
