"""A small image in memory, for tests of what is written from blobs."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import IO

from buildfront.image.descriptor import Descriptor, Layer
from buildfront.image.digest import Digest

LAYER = "application/vnd.oci.image.layer.v1.tar"


class Blobs:
    """Blobs by their digests."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.opened: list[str] = []

    def add(self, data: bytes, media_type: str) -> Descriptor:
        """Keep a blob, and return its descriptor."""
        digest = Digest("sha256:" + hashlib.sha256(data).hexdigest())
        self.data[digest] = data
        return Descriptor(media_type, digest, len(data))

    def open(self, item: Descriptor) -> IO[bytes]:
        """Open a blob, and remember that it was opened."""
        self.opened.append(item.digest)
        return io.BytesIO(self.data[item.digest])

    def layer(self, *files: tuple[str, bytes]) -> Layer:
        """A layer with these files, whose names end with / for directories."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, content in files:
                info = tarfile.TarInfo(name.rstrip("/"))
                info.size, info.mode, info.mtime = len(content), 0o644, 1_700_000_000
                if name.endswith("/"):
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info, io.BytesIO(content))
        item = self.add(out.getvalue(), LAYER)
        return Layer(item, item.digest)

    def image(self, *layers: Layer) -> tuple[Descriptor, Descriptor]:
        """The descriptors of a manifest and a config for these layers."""
        config = {"rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}}
        of_config = self.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
        manifest = {
            "schemaVersion": 2,
            "config": of_config.to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
        }
        of_manifest = self.add(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        return of_manifest, of_config
