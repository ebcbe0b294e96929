"""The layers of steps, written behind the steps that follow, and what the catalogue keeps of a step."""

from __future__ import annotations

import concurrent.futures
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from ..errors import BuildError
from ..graph.step_graph import Step
from ..image.compression import writer
from ..image.descriptor import Layer
from ..image.diff import EntryLog
from ..image.hashed import HashedWriter
from ..image.layer import write_tar
from ..image.media_types import LAYER, LAYER_GZIP, LAYER_ZSTD
from ..store.image_store import Session
from ..store.verified import is_whole, remember
from ..text import visible
from .cache_key import Key, canonical
from .cancellation import Cancellation
from .report import Report

MEDIA_TYPES = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD, "uncompressed": LAYER}
_WRITERS = 2
_BUFFER = 1 << 18


class LayerWriter:
    """Writes layers on threads of its own, and records the steps that are complete.

    As a context manager it waits for its threads at the end, and drops the snapshots that did not get a layer.
    """

    def __init__(
        self,
        session: Session,
        report: Report,
        cancel: Cancellation,
        *,
        compression: str = "gzip",
        level: int | None = None,
    ) -> None:
        self._session = session
        self._report = report
        self._cancel = cancel
        self._compression = compression
        self._level = level
        self._pool = concurrent.futures.ThreadPoolExecutor(_WRITERS, "buildfront-layer")
        self._layers: list[concurrent.futures.Future[None]] = []
        self._made: dict[int, int | None] = {}
        """The parents of the snapshots of this build's steps."""
        self._kept: set[int] = set()
        """Those that the catalogue has as results."""

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        self._drop_unfinished()

    def wait(self) -> None:
        """Wait for all layers. Raise the first error of one that could not be written."""
        for future in self._layers:
            future.result()

    def made(self, number: int, parent: int | None) -> None:
        """Take responsibility for a new snapshot: it is dropped at the end if it is not recorded before."""
        self._made[number] = parent

    def write(self, step: Step, key: Key, number: int, entries: EntryLog) -> None:
        """Write the layer of a snapshot later, and record the step when it is complete. Closes ``entries``."""
        self._layers.append(self._pool.submit(self._write_on_thread, step, key, number, entries))

    def record(self, step: Step, key: Key, number: int | None, *, changed: bool) -> None:
        """Record the step's result in the catalogue. From now on it is cached."""
        self._session.store.catalogue.set_step(
            key.digest,
            f"{step.stage}:{step.source.start}:{step.op.kind}",
            number,
            changed,
            canonical(key.parts),
            int(self._report.seconds(step) * 1e6),
            int(time.time()),
            canonical(self._report.usage(step)),
        )
        if number is not None and changed:
            self._kept.add(number)

    def _write_on_thread(self, step: Step, key: Key, number: int, entries: EntryLog) -> None:
        try:
            self._write(step, key, number, entries)
        except OSError as error:
            raise self._session.store.told(error).at(step.source) from error

    def _write(self, step: Step, key: Key, number: int, entries: EntryLog) -> None:
        store = self._session.store
        layer = self.layer_of(step, store.snapshot_path(number), entries, self._cancel.check_layer)
        self.set_layer(number, layer)
        self.record(step, key, number, changed=True)

    def layer_of(self, step: Step, directory: str, entries: EntryLog, check: Callable[[], None]) -> Layer:
        """Write the layer of a finished root filesystem now. Closes ``entries``."""
        store = self._session.store
        tree, _ = store.driver(self._session.path).comparison(directory)
        blob = self._session.blob()
        lists: list[str] = []
        try:
            compressed = writer(blob, self._compression, self._level)
            hashed = HashedWriter(compressed, check)
            root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with io.BufferedWriter(hashed, _BUFFER) as out:
                    write_tar(entries, root, out, lists.append)
                    out.flush()
                    compressed.close()
            finally:
                os.close(root)
            descriptor = blob.commit(MEDIA_TYPES[self._compression])
            remember(store, [descriptor.digest])
        except BaseException:
            blob.discard()
            raise
        finally:
            entries.close()
        if lists:
            more = f" and {len(lists) - 1} more" if len(lists) > 1 else ""
            text = f"{visible(lists[0], 200)}{more} lost the access control list that the step left: no image has one"
            self._report.warn(step, (text,))
        return Layer(descriptor, hashed.digest)

    def set_layer(self, number: int, layer: Layer) -> None:
        """Note the layer of a snapshot."""
        blob = layer.descriptor
        catalogue = self._session.store.catalogue
        catalogue.set_layer(number, layer.diff_id, blob.digest, blob.size, blob.media_type)

    # layers that do not depend on the parent

    def known(self, content: Key) -> Layer | None:
        """Return the layer that was made for this key, if it is still there and whole."""
        store = self._session.store
        row = store.catalogue.step(content.digest)
        snapshot = None if row is None or row.snapshot is None else store.catalogue.snapshot(row.snapshot)
        layer = None if snapshot is None else snapshot.layer
        if layer is None or not is_whole(store, layer.descriptor.digest, layer.descriptor.size):
            return None
        return layer

    def record_content(self, content: Key, number: int) -> None:
        """Note that the layer of a snapshot is the one for this key, whatever it lies on."""
        self._session.store.catalogue.set_step(
            content.digest, "link", number, True, canonical(content.parts), 0, int(time.time())
        )

    def _drop_unfinished(self) -> None:
        """Drop the snapshots whose layer could not be written, and those that lie on them: no build can use them."""
        unfinished = self._made.keys() - self._kept
        for number in sorted(self._made):  # a parent has a lower number
            if self._made[number] in unfinished:
                unfinished.add(number)
        for number in sorted(unfinished, reverse=True):
            with suppress(OSError, BuildError):  # the disk may be full; the first error is the one to tell
                self._session.drop(number)
