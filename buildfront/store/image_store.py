"""One store on disk: opening it, sessions that own what is temporary, blobs, snapshots.

Layout: ``oci-layout``, ``index.json``, ``blobs/sha256/`` (a valid OCI image layout), ``snapshots/ID/``,
``catalogue.sqlite``, ``tmp/SESSION/``. Everything is made in a session's directory and renamed into place, so
what a killed build leaves is exactly its session's directory, found by its free lock at the next start.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BuildError
from ..image.model import Descriptor
from .blobs import BlobWriter
from .caches import Caches
from .catalogue import Catalogue
from .failure import telling, told
from .index import ImageIndex
from .layout import open_layout
from .location import default_root
from .locks import UNFINISHED, locked_directory
from .snapshots import Active, Driver, View, best, driver

SESSION = "s-"
"""What the name of a session begins with."""

_SMALL = 8 << 20
"""Bytes of a blob that is read as a whole: a manifest, a config."""


class Store:
    """Open, and create when missing. Raises BuildError when the place can't be used."""

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
        """Close it. What the system or SQLite refused inside becomes a BuildError, where nobody has told it better."""
        self.close()
        for text in self.take_warnings():
            import logging

            logging.getLogger("buildfront").warning("warning: %s", text)
        if isinstance(error, OSError | sqlite3.Error):
            with telling(self.root):
                raise error

    def take_warnings(self) -> list[str]:
        """What is to be told of the store's state, once."""
        taken, self.warnings[:] = list(self.warnings), []
        return taken

    def told(self, error: OSError | sqlite3.Error) -> BuildError:
        """An error of the system as a BuildError that names the store, or the file."""
        return told(self.root, error)

    def require_writable(self) -> None:
        """Raises BuildError where nothing can be kept."""
        if self.catalogue.read_only:
            raise BuildError(
                f"the store {self.root!r} can't be written to: {self.catalogue.read_only}",
                hint="make room or its filesystem writable, or choose another place with --root or BUILDFRONT_ROOT",
            )

    # blobs

    def blob_path(self, digest: str) -> str:
        """Where a blob is. Raises BuildError for what is no sha256 digest."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or not all(c in "0123456789abcdef" for c in value):
            raise BuildError(f"unsupported digest {digest!r}", hint="only sha256 is supported")
        return os.path.join(self.blobs, value)

    def has_blob(self, digest: str) -> bool:
        """Whether it is here."""
        return os.path.exists(self.blob_path(digest))

    def read_blob(self, digest: str) -> bytes:
        """A document (a manifest, a config), its digest checked. Raises BuildError, also for what is too large."""
        from ..image.documents import LIMIT
        from .verified import BlobReader

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
        """A directory that this process owns; gone at the end, in every outcome."""
        self.require_writable()
        with telling(self.root):
            session = Session(self)
        try:
            yield session
        finally:
            with telling(self.root):
                session.close()

    def stale_sessions(self) -> list[str]:
        """Directories of sessions whose process is gone."""
        with locked_directory(self.tmp):  # nobody is making a session now: one that has no name yet is dead
            names = os.listdir(self.tmp)
        paths = [os.path.join(self.tmp, name) for name in names if name.startswith((SESSION, UNFINISHED))]
        return [path for path in paths if _is_stale(path)]

    def remove_stale(self, path: str) -> None:
        """Remove one of them."""
        from run_step import remove_tree

        remove_tree(path)

    # snapshots

    def driver(self, work: str) -> Driver:
        """The driver of this store, chosen when the first snapshot is made."""
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
        """The directory of a snapshot."""
        return os.path.join(self._snapshots, str(number))

    def has_snapshot(self, number: int) -> bool:
        """Whether its files are there."""
        path = self.snapshot_path(number)
        return os.path.isdir(os.path.join(path, "diff")) or os.path.isdir(os.path.join(path, "fs"))

    def has_lineage(self, number: int | None) -> bool:
        """Whether all that a snapshot lies on is there, itself included."""
        while number is not None:
            row = self.catalogue.snapshot(number)
            if row is None or not self.has_snapshot(number):
                return False
            number = row.parent
        return True

    def lineage(self, number: int | None) -> list[str]:
        """The directories of a snapshot and its ancestors, topmost first; those that changed nothing left out.

        Raises BuildError where one of them is not known: a root filesystem must not lack a part."""
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
    """What one process makes in a store before it is complete. Methods may be called by several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # It has its lock before it has its name, so that nobody can find it free.
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
        """Remove the directory and give the lock back. Killed meanwhile, it is one that is stale."""
        from run_step import remove_tree

        remove_tree(self.path)
        os.close(self._lock_fd)

    def place(self, kind: str) -> str:
        """A new name in the session's directory; nothing is made."""
        with self._mutex:
            self._count += 1
            return os.path.join(self.path, f"{kind}-{self._count}")

    def directory(self, kind: str) -> str:
        """A new empty directory."""
        path = self.place(kind)
        os.mkdir(path)
        os.chmod(path, 0o711)  # whatever our umask
        return path

    def blob(self) -> BlobWriter:
        """A blob that goes into the store when it is committed."""
        return BlobWriter(self.store.blobs, self.place("blob"))

    def put(self, data: bytes, media_type: str, expected: str = "") -> Descriptor:
        """A small blob, at once."""
        writer = self.blob()
        writer.write(data)
        return writer.commit(media_type, expected)

    def prepare(self, parent: int | None) -> Active:
        """A writable root filesystem on top of a snapshot (None: empty)."""
        work = self.directory("active")
        return self.store.driver(self.path).prepare(work, self.store.lineage(parent))

    def view(self, number: int | None) -> View:
        """A snapshot to read. Close it."""
        work = self.directory("view")
        os.chmod(work, 0o755)  # what a step sees where there is no snapshot
        return self.store.driver(self.path).view(work, self.store.lineage(number))

    def commit(self, active: Active, parent: int | None, *, empty: bool = False) -> int:
        """Make an active root filesystem a snapshot; returns its number."""
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
                # The number is new: what lies there is of a catalogue that was lost, and nobody knows of it.
                os.rename(place, self.place("unknown"))
                os.rename(directory, place)
        except OSError:
            catalogue.drop_snapshot(number)
            raise
        active.discard()
        return number

    def drop(self, number: int) -> None:
        """Take a snapshot away again that nothing else lies on."""
        self.store.catalogue.drop_snapshot(number)
        try:
            os.rename(self.store.snapshot_path(number), self.place("dropped"))
        except FileNotFoundError:
            pass
