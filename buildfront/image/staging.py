"""An image that comes in: its blobs wait until all of it has been checked, so a failure leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import BuildError
from .blob_protocol import BlobSink, BlobWriter
from .compression import layer_reader, unreadable
from .descriptor import Descriptor, Layer
from .digest import Digest
from .documents import LIMIT
from .hashed import HashedReader
from .image_config import ImageConfig
from .manifest import Manifest
from .together import each


class Staging:
    """Blobs on their way into a sink. Methods may be called by several threads, each for another blob."""

    def __init__(self, sink: BlobSink) -> None:
        self._sink = sink
        self._waiting: dict[str, tuple[BlobWriter, str]] = {}
        self._layers: dict[Layer, None] = {}

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether a blob waits here, or is in the sink and whole. Raise BuildError if it waits with another size."""
        waiting = self._waiting.get(digest)
        if waiting is None:
            return self._sink.is_whole(digest, size)
        if size is not None and waiting[0].size != size:
            raise BuildError(f"the blob {digest} has {waiting[0].size} bytes, and its descriptor says {size}")
        return True

    def add(
        self, chunks: Iterable[bytes], media_type: str, expected: str = "", size: int | None = None
    ) -> Descriptor:
        """Add a blob, and return its descriptor. Raise BuildError if its digest or size is not what is expected."""
        writer = self._sink.blob()
        try:
            for chunk in chunks:
                writer.write(chunk)
                if size is not None and writer.size > size:
                    raise BuildError(f"the blob {expected} is longer than its descriptor says ({size} bytes)")
            if (expected and writer.digest != expected) or size not in (None, writer.size):
                why = (
                    f"{writer.size} of {size} bytes came"
                    if size not in (None, writer.size)
                    else "its content differs"
                )
                raise BuildError(f"the blob {expected} is damaged: its digest is {writer.digest} ({why})")
        except BaseException:
            writer.discard()
            raise
        self._waiting[writer.digest] = (writer, media_type)
        return Descriptor(media_type, writer.digest, writer.size)

    def document(self, chunks: Iterable[bytes], item: Descriptor) -> bytes:
        """Return the content of a document, which is added if it is not here yet. Raise BuildError if that fails."""
        if item.size > LIMIT:
            raise BuildError(f"the blob {item.digest} is too large for a document: {item.size} bytes")
        if not self.has(item.digest, item.size):
            self.add(chunks, item.media_type, item.digest, item.size)
        waiting = self._waiting.get(item.digest)
        if waiting is None:
            return self._sink.read_blob(item.digest)
        with waiting[0].reopen() as stream:
            return stream.read()

    def check_layer(self, layer: Layer) -> None:
        """Raise BuildError unless the layer's blob, which is here, holds the tar of its diff ID."""
        item = layer.descriptor
        if self._sink.is_layer(layer):
            return
        waiting = self._waiting.get(item.digest)
        with waiting[0].reopen() if waiting else self._sink.open_blob(item.digest) as stream:
            try:
                tar = HashedReader(layer_reader(stream, item.media_type))
                while tar.read(1 << 20):
                    pass
            except unreadable() as error:
                raise BuildError(f"the layer {item.digest} is damaged: {error}") from None
        tar.check(layer)
        self._layers[layer] = None

    def image(
        self,
        manifest: Manifest,
        what: str,
        read: Callable[[Descriptor], Iterable[bytes]],
        abort: Callable[[], None] = lambda: None,
    ) -> None:
        """Add the config and the layers of a manifest, each checked against what is said of it.

        ``read`` yields the content of a blob; ``abort`` makes reads that are going on fail.
        """
        config = ImageConfig.parse(
            self.document(read(manifest.config), manifest.config), f"the image config of {what}"
        )
        layers = config.layers(manifest, what)

        def stage(item: Descriptor) -> None:
            if not self.has(item.digest, item.size):
                self.add(read(item), item.media_type, item.digest, item.size)

        each((item for item in manifest.blobs if item is not manifest.config), stage, abort)
        each(dict.fromkeys(layers), self.check_layer, abort)

    def commit(self) -> None:
        """Move everything into the sink."""
        for writer, media_type in self._waiting.values():
            writer.commit(media_type)
        self._sink.remember([Digest(digest) for digest in self._waiting], self._layers)
        self._waiting.clear()
        self._layers.clear()
