"""One store on disk: opening it, sessions that own what is temporary, blobs, snapshots.

Layout: ``oci-layout``, ``index.json``, ``blobs/sha256/`` (a valid OCI image layout), ``snapshots/ID/``,
``catalogue.sqlite``, ``tmp/SESSION/``. Everything is made in a session's directory and renamed into place, so
what a killed build leaves is exactly its session's directory, found by its free lock at the next start.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BuildError
from ..image.model import Descriptor
from ..place import default_root
from .blobs import BlobWriter
from .caches import Caches
from .catalogue import Catalogue
from .index import ImageIndex
from .snapshots import Active, Driver, View, best, driver


class Store:
    """Open, and create when missing. Raises BuildError when the place can't be used."""

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.abspath(root or default_root())
        self.blobs = os.path.join(self.root, "blobs", "sha256")
        self.tmp = os.path.join(self.root, "tmp")
        self._snapshots = os.path.join(self.root, "snapshots")
        try:
            if not os.path.exists(os.path.join(self.root, "oci-layout")):
                self._create()
        except OSError as error:
            raise BuildError(
                f"the store {self.root} can't be made: {error.strerror}",
                hint="choose another place with --root or BUILDFRONT_ROOT",
            ) from None
        self.index = ImageIndex(self.root)
        self.catalogue = Catalogue(os.path.join(self.root, "catalogue.sqlite"))
        self.caches = Caches(os.path.join(self.root, "caches"))
        self._driver: Driver | None = None
        self._driver_lock = threading.Lock()
        self.can_mount = True

    def _create(self) -> None:
        # Root filesystems may hold programs with the set-user-ID bit, which no other user of the machine may reach.
        modes = {self.root: 0o711, self.blobs: 0o755, self.tmp: 0o711, self._snapshots: 0o700}
        for path, mode in modes.items():
            made = not os.path.isdir(path)
            os.makedirs(path, mode=mode, exist_ok=True)
            if made or path == self.tmp:
                os.chmod(path, mode)  # whatever our umask
        fd, temporary = tempfile.mkstemp(prefix="oci-layout.", dir=self.root)
        with open(fd, "w", encoding="utf-8") as stream:
            json.dump({"imageLayoutVersion": "1.0.0"}, stream)
        os.chmod(temporary, 0o644)
        if not os.path.exists(os.path.join(self.root, "index.json")):
            ImageIndex(self.root).change(lambda items: items)
        os.rename(temporary, os.path.join(self.root, "oci-layout"))

    def close(self) -> None:
        """Close the catalogue."""
        self.catalogue.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

        with BlobReader(self, digest) as blob:
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
        session = Session(self)
        try:
            yield session
        finally:
            session.close()

    def stale_sessions(self) -> list[str]:
        """Directories of sessions whose process is gone."""
        out = []
        with locked_directory(self.tmp):  # nobody is making a session now: one that has no name yet is dead
            names = os.listdir(self.tmp)
        for name in names:
            path = os.path.join(self.tmp, name)
            try:
                fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                if os.path.isdir(path):
                    out.append(path)  # died when it had no lock yet, or no more
                continue
            except NotADirectoryError:
                continue  # no session
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                out.append(path)
            except BlockingIOError:
                continue
            finally:
                os.close(fd)
        return out

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
        """Whether its directory is there."""
        return os.path.isdir(self.snapshot_path(number))

    def lineage(self, number: int | None) -> list[str]:
        """The directories of a snapshot and its ancestors, topmost first; those that changed nothing left out."""
        return [self.snapshot_path(row.id) for row in self.catalogue.lineage(number) if not row.empty]


_UNFINISHED = "new-"
"""What the name of a session begins with until it has its lock."""


@contextmanager
def locked_directory(path: str) -> Iterator[None]:
    """Hold the lock of a directory itself; the kernel gives it back, whatever ends the process."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class Session:
    """What one process makes in a store before it is complete. Methods may be called by several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # It has its lock before it has its name, so that nobody can find it free.
        with locked_directory(store.tmp):
            new = tempfile.mkdtemp(prefix=_UNFINISHED, dir=store.tmp)
            os.chmod(new, 0o711)
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
            self._lock_fd = os.open(os.path.join(new, "lock"), flags, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            self.path = os.path.join(store.tmp, "s-" + os.path.basename(new).removeprefix(_UNFINISHED))
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
        number = self.store.catalogue.new_snapshot(parent, empty, int(time.time()))
        try:
            os.rename(directory, self.store.snapshot_path(number))
        except OSError:
            self.store.catalogue.drop_snapshot(number)
            raise
        active.discard()
        return number
