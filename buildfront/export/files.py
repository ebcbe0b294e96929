"""``type=local`` and ``type=tar``: the root filesystem itself.

Nothing is mounted. The layers are applied again in a scratch directory, so that what a layer removes is never looked
for among the user's own files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO

from run_step import Root, check_move, move_tree

from ..errors import BuildError
from ..image.compression import layer_reader, unreadable
from ..image.descriptor import Layer
from ..image.diff import Comparison
from ..image.hashed import HashedReader
from ..image.layer import Applier, write_tar
from ..image.oci_layout import Opener


def unpack(
    directory: str, layers: Sequence[Layer], open_blob: Opener, *, owner: tuple[int, int] | None = None
) -> None:
    """Apply the layers in an empty directory. ``owner`` (user and group ID) owns all of it, whatever the image says.

    Raise BuildError if a layer is damaged, or does not hold what its diff ID says.
    """
    with Root(directory) as root:
        for layer in layers:
            item = layer.descriptor
            with open_blob(item) as blob:
                try:
                    hashed = HashedReader(layer_reader(blob, item.media_type))
                    Applier(root, owner=owner).apply(hashed)
                except unreadable() as error:
                    raise BuildError(f"the layer {item.digest} can't be unpacked: {error}") from None
                while blob.read(1 << 20):
                    pass  # to the end, which tells whether it is what its digest says
            hashed.check(layer)


def write_directory(
    directory: str,
    scratch: str,
    layers: Sequence[Layer],
    open_blob: Opener,
    *,
    owner: tuple[int, int] | None = None,
) -> None:
    """Write the root filesystem to a directory, which is made if it is missing. Other files in it are not touched.

    ``scratch`` is an empty directory to unpack into. Raise BuildError, before anything is written, if a directory that
    is not empty stands in the way of a file.
    """
    unpack(scratch, layers, open_blob, owner=owner)
    os.makedirs(directory, exist_ok=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source, target = os.open(scratch, flags), os.open(directory, flags)
    try:
        in_the_way = check_move(source, target)
        if in_the_way:
            raise BuildError(
                f"{os.path.join(directory, in_the_way)} is a directory with files in it, and the image has a file "
                "there",
                hint="move it away, or write to another directory",
            )
        move_tree(source, target)
    finally:
        os.close(source)
        os.close(target)


def write_rootfs_tar(out: IO[bytes], scratch: str, layers: Sequence[Layer], open_blob: Opener) -> None:
    """Write the root filesystem as one tar. ``scratch`` is an empty directory to unpack into."""
    unpack(scratch, layers, open_blob)
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_tar(Comparison(complete=True).walk(fd, None), fd, out)
    finally:
        os.close(fd)
