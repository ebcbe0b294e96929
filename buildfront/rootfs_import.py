"""An image made from a tar of a root filesystem."""

from __future__ import annotations

import errno
import time
from typing import IO

from .errors import BuildError
from .image import platform as platforms
from .image import reference as references
from .image.assemble import rfc3339
from .image.compression import kind, reader, unreadable
from .image.descriptor import Descriptor, Layer
from .image.documents import dumps
from .image.hashed import HashedReader
from .image.layout_files import open_archive
from .image.layout_index import NamedEntry
from .image.manifest import image_manifest
from .image.media_types import CONFIG, LAYER, LAYER_GZIP, LAYER_ZSTD, MANIFEST
from .image.staging import Staging
from .image.tar_header import BLOCK, ArchiveError
from .image.tar_reader import TarReader
from .store.image_store import Store


def import_rootfs(store: Store, path: str, name: str, *, platform: str = "", message: str = "") -> Descriptor:
    """Make an image of one layer from a tar of a root filesystem, compressed or not.

    Raise BuildError if the tar is damaged; the store is then as it was.
    """
    full = str(references.parse(name))
    with store.session() as session, open_archive(path, session.path) as stream:
        staging = Staging(session)
        hashed = HashedReader(reader(stream))
        try:
            archive = TarReader(hashed)
            count = sum(1 for _ in archive)
            archive.drain()
        except ArchiveError as error:
            raise BuildError(f"{path} is not a tar archive, or is cut off: {error.what}") from None
        except unreadable() as error:
            raise BuildError(f"{path} is not a tar archive, or is cut off: {error}") from None
        if count == 0:
            raise BuildError(f"{path} is an empty archive")
        stream.seek(0)
        compressed = kind(stream.read(BLOCK))
        stream.seek(0)
        chosen = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD, "plain": LAYER}.get(compressed)
        # There is not a media type for other compressions: such a layer is kept uncompressed.
        stream_in: IO[bytes] = reader(stream) if chosen is None else stream
        try:
            added = staging.add(iter(lambda: stream_in.read(1 << 20), b""), chosen or LAYER)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise store.told(error) from None
            raise BuildError(f"{path} can't be imported: {error.strerror or error}") from None
        layer = Layer(added, hashed.digest)
        now = rfc3339(int(time.time()))
        config_value = {
            **platforms.to_json(platform or platforms.host()),
            "created": now,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [{"created": now, "created_by": "import", "comment": message or "buildfront import"}],
        }
        config = staging.add([dumps(config_value)], CONFIG)
        manifest = staging.add([image_manifest(config, [layer])], MANIFEST)
        staging.commit()
    store.index.set(full, NamedEntry.of(manifest))
    return manifest
