"""One store on disk: opening it, sessions that own what is temporary, blobs, snapshots.

Layout: ``oci-layout``, ``index.json``, ``blobs/sha256/`` (a valid OCI image layout), ``snapshots/ID/``,
``catalogue.sqlite``, ``tmp/SESSION/``. Everything is made in a session's directory and renamed into place. So a killed
build leaves exactly its session's directory, which the next start finds by its free lock.

:class:`Store` and :class:`Session` satisfy the blob protocol (:mod:`buildfront.image.blob_protocol`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from run_step import remove_tree

from ..errors import BuildError
from ..image.descriptor import Descriptor, Layer
from ..image.digest import Digest
from ..image.documents import LIMIT
from .blobs import BlobWriter
from .caches import Caches
from .catalogue import Catalogue
from .failure import telling, told
from .index import ImageIndex
from .layout import open_layout
from .location import default_root
from .locks import UNFINISHED, locked_directory
from .snapshots import Active, Driver, View, best, driver
from .verified import BlobReader, is_whole, remember

SESSION = "s-"
"""The beginning of a session's name."""


class Store:
    """An open store, created if it is missing. The constructor raises BuildError if the place can't be used."""

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.abspath(os.fsdecode(root or default_root()))
        self.blobs = os.path.join(self.root, "blobs", "sha256")
        self.tmp = os.path.join(self.root, "tmp")
        self._snapshots = os.path.join(self.root, "snapshots")
        open_layout(self.root)
        self.index = ImageIndex(self.root)
        with telling(self.root):
            self.catalogue = Catalogue(os.path.join(self.root, "catalogue.sqlite"))
        self.warnings = self.catalogue.warnings
        self.caches = Caches(os.path.join(self.root, "caches"))
        self._driver: Driver | None = None
        self._driver_lock = threading.Lock()
        self.can_mount = True

    def close(self) -> None:
        """Close the catalogue."""
        self.catalogue.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close the store. An OSError or an error of SQLite from inside becomes a BuildError."""
        self.close()
        for text in self.take_warnings():
            import logging

            logging.getLogger("buildfront").warning("warning: %s", text)
        if isinstance(error, OSError | sqlite3.Error):
            with telling(self.root):
                raise error

    def take_warnings(self) -> list[str]:
        """Return the warnings about the store's state, each once."""
        taken, self.warnings[:] = list(self.warnings), []
        return taken

    def told(self, error: OSError | sqlite3.Error) -> BuildError:
        """Return an error of the system as a BuildError that names the store or the file."""
        return told(self.root, error)

    def require_writable(self) -> None:
        """Raise BuildError if nothing can be kept."""
        if self.catalogue.read_only:
            raise BuildError(
                f"the store {self.root!r} can't be written to: {self.catalogue.read_only}",
                hint="make room or its filesystem writable, or choose another place with --root or BUILDFRONT_ROOT",
            )

    # blobs

    def blob_path(self, digest: str) -> str:
        """Return the path of a blob. Raise BuildError if this is not a sha256 digest."""
        return os.path.join(self.blobs, Digest.parse(digest).hex)

    def has_blob(self, digest: str) -> bool:
        """Whether a file for the blob is there, whole or not."""
        return os.path.exists(self.blob_path(digest))

    def is_whole(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is there, of this size, and its content is what its digest says."""
        return is_whole(self, digest, size)

    def open_blob(self, digest: str) -> IO[bytes]:
        """Open a blob that was found whole. Its content is not checked again."""
        return open(self.blob_path(digest), "rb")

    def read_blob(self, digest: str) -> bytes:
        """Return a document, its digest checked. Raise BuildError if it is missing, damaged or too large."""
        with telling(self.root), BlobReader(self, digest) as blob:
            data = bytearray()
            while len(data) <= LIMIT and (chunk := blob.read(LIMIT)):
                data += chunk
        if len(data) > LIMIT:
            raise BuildError(f"the blob {digest} is too large for a document")
        return bytes(data)

    # sessions

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Begin a session: a directory that this process owns. It is removed at the end, in every outcome."""
        self.require_writable()
        with telling(self.root):
            session = Session(self)
        try:
            yield session
        finally:
            with telling(self.root):
                session.close()

    def stale_sessions(self) -> list[str]:
        """Return the directories of sessions whose process has ended."""
        with locked_directory(self.tmp):  # no session is being made now: one that has no name yet is dead
            names = os.listdir(self.tmp)
        paths = [os.path.join(self.tmp, name) for name in names if name.startswith((SESSION, UNFINISHED))]
        return [path for path in paths if _is_stale(path)]

    def remove_stale(self, path: str) -> None:
        """Remove one of them."""
        remove_tree(path)

    # snapshots

    def driver(self, work: str) -> Driver:
        """Return the driver of this store, which is chosen when the first snapshot is made."""
        with self._driver_lock:  # two threads that try at once would be in each other's way
            if self._driver is None:
                name = self.catalogue.meta("snapshots")
                if name is None:
                    found = best(work) if self.can_mount else "copy"
                    name = self.catalogue.settle_meta("snapshots", found)
                if name == "overlay" and not self.can_mount:
                    raise BuildError(
                        f"the store {self.root} keeps its snapshots as overlays, and nothing can be mounted here",
                        hint="use another store with --root, or run where mounts are allowed",
                    )
                self._driver = driver(name)
            return self._driver

    def snapshot_path(self, number: int) -> str:
        """Return the directory of a snapshot."""
        return os.path.join(self._snapshots, str(number))

    def has_snapshot(self, number: int) -> bool:
        """Whether the files of a snapshot are there."""
        path = self.snapshot_path(number)
        return os.path.isdir(os.path.join(path, "diff")) or os.path.isdir(os.path.join(path, "fs"))

    def has_lineage(self, number: int | None) -> bool:
        """Whether a snapshot and all of its ancestors are there."""
        while number is not None:
            row = self.catalogue.snapshot(number)
            if row is None or not self.has_snapshot(number):
                return False
            number = row.parent
        return True

    def lineage(self, number: int | None) -> list[str]:
        """Return the directories of a snapshot and its ancestors, topmost first, without those that changed nothing.

        Raise BuildError if one of them is not known: a root filesystem must not lack a part.
        """
        rows = self.catalogue.lineage(number)
        if number is not None and not rows:
            raise BuildError(f"the snapshot {number} is not in the store any more", hint="build again")
        return [self.snapshot_path(row.id) for row in rows if not row.empty]


def _is_stale(path: str) -> bool:
    """Whether this is the directory of a session of ours whose process is gone. Links are not followed."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # gone, or no session
    try:
        if os.fstat(directory).st_uid != os.geteuid():
            return False
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            lock = os.open("lock", flags, dir_fd=directory)
        except OSError:
            return True  # died when it had no lock yet, or no more
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True
    finally:
        os.close(directory)


class Session:
    """A place for what one process makes before it is complete. Methods may be called by several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # It has its lock before it has its name, so that it is never found free.
        with locked_directory(store.tmp):
            new = tempfile.mkdtemp(prefix=UNFINISHED, dir=store.tmp)
            os.chmod(new, 0o711)
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
            self._lock_fd = os.open(os.path.join(new, "lock"), flags, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            self.path = os.path.join(store.tmp, SESSION + os.path.basename(new).removeprefix(UNFINISHED))
            os.rename(new, self.path)
        self._mutex = threading.Lock()
        self._count = 0

    def close(self) -> None:
        """Remove the directory and release the lock. If the process is killed meanwhile, the session is stale."""
        remove_tree(self.path)
        os.close(self._lock_fd)

    def place(self, kind: str) -> str:
        """Return a new path in the session's directory; nothing is made."""
        with self._mutex:
            self._count += 1
            return os.path.join(self.path, f"{kind}-{self._count}")

    def directory(self, kind: str) -> str:
        """Make a new directory, and return its path."""
        path = self.place(kind)
        os.mkdir(path)
        os.chmod(path, 0o711)  # whatever our umask
        return path

    def blob(self) -> BlobWriter:
        """Begin a blob that is in the store when it is committed."""
        return BlobWriter(self.store.blobs, self.place("blob"))

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Write a small blob."""
        writer = self.blob()
        writer.write(data)
        return writer.commit(media_type)

    def is_whole(self, digest: str, size: int | None = None) -> bool:
        """Whether the store has the blob, and it is whole."""
        return self.store.is_whole(digest, size)

    def open_blob(self, digest: str) -> IO[bytes]:
        """Open a blob of the store that was found whole."""
        return self.store.open_blob(digest)

    def read_blob(self, digest: str) -> bytes:
        """Return a document of the store."""
        return self.store.read_blob(digest)

    def is_layer(self, layer: Layer) -> bool:
        """Whether the blob is known to hold the tar of the layer's diff ID."""
        return self.store.catalogue.is_layer(layer.descriptor.digest, layer.diff_id)

    def remember(self, blobs: Iterable[Digest], layers: Iterable[Layer]) -> None:
        """Note that blobs were just written whole, and that layers hold the tars of their diff IDs."""
        remember(self.store, blobs)
        self.store.catalogue.set_layers(
            sorted({(layer.descriptor.digest, layer.diff_id) for layer in layers})
        )

    def prepare(self, parent: int | None) -> Active:
        """Make a writable root filesystem on top of a snapshot (None: an empty one)."""
        work = self.directory("active")
        return self.store.driver(self.path).prepare(work, self.store.lineage(parent))

    def view(self, number: int | None) -> View:
        """Open a snapshot to read it. Close the result."""
        work = self.directory("view")
        os.chmod(work, 0o755)  # a step sees these modes if there is no snapshot
        return self.store.driver(self.path).view(work, self.store.lineage(number))

    def commit(self, active: Active, parent: int | None, *, empty: bool = False) -> int:
        """Make a snapshot of an active root filesystem, and return its number."""
        directory = active.finish()
        catalogue = self.store.catalogue
        number = catalogue.new_snapshot(parent, empty, int(time.time()))
        place = self.store.snapshot_path(number)
        try:
            try:
                os.rename(directory, place)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                # The number is new: what lies there belongs to a catalogue that was lost.
                os.rename(place, self.place("unknown"))
                os.rename(directory, place)
        except OSError:
            catalogue.drop_snapshot(number)
            raise
        active.discard()
        return number

    def drop(self, number: int) -> None:
        """Remove a snapshot that no other lies on."""
        self.store.catalogue.drop_snapshot(number)
        try:
            os.rename(self.store.snapshot_path(number), self.place("dropped"))
        except FileNotFoundError:
            pass
