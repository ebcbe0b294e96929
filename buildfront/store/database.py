"""The file of the catalogue: opened, made, set aside if it is damaged, read if nothing can be written.

* Of several programs that make or replace it, one does: under the lock of the store's directory.
* A damaged file, at whatever statement it shows, is renamed to ``catalogue.sqlite.damaged-N``, and a new one is made.
  Images have their content and their names elsewhere; only the cache is lost.
* A new catalogue knows no snapshots. Those that are there go into the directory of a session without an owner, which
  the next build removes; new numbers begin above theirs.
* If nothing can be written (a read-only filesystem, a full disk), it is read into memory.
* A catalogue of a newer version is refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple

from ..errors import BuildError
from .connection import connect
from .failure import is_damage, told
from .locks import abandoned_directory, locked_directory

TIMEOUT = 30.0
"""Seconds that a statement waits for another program."""


class Schema(NamedTuple):
    """The tables of this version, and a function that upgrades those of an older one."""

    version: int
    tables: str
    upgrade: Callable[[sqlite3.Connection], None]


class Database:
    """The open catalogue. ``connection`` may be used by one thread at a time, inside :meth:`telling`."""

    def __init__(self, path: str, schema: Schema) -> None:
        self._path = path
        self._root = os.path.dirname(path)
        self._schema = schema
        self._broken: BuildError | None = None
        self.warnings: list[str] = []
        self.read_only = ""
        self._opened = self._inode()
        if self._opened and not os.access(path, os.W_OK):
            # SQLite may read it, if only with the log of a program that was killed, and fail when it is to write.
            self.connection = self._open_in_memory(sqlite3.OperationalError("it may not be written to"))
            return
        try:
            self.connection = self._open()
            self._opened = self._inode()
        except sqlite3.Error as error:
            if is_damage(error):
                self.connection = self._replace(error)
            elif getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise told(self._root, error) from None
            else:
                self.connection = self._open_in_memory(error)

    def close(self) -> None:
        """Close the connection."""
        with suppress(sqlite3.Error):  # the error was reported before
            self.connection.close()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn errors of SQLite into BuildErrors, and set a damaged file aside for the next program."""
        if self._broken is not None:
            raise self._broken
        try:
            yield
        except sqlite3.Error as error:
            if is_damage(error):
                raise self.damaged(str(error)) from None
            raise told(self._root, error) from None

    def damaged(self, why: str) -> BuildError:
        """Set the file aside, and return the error to raise. The connection can't be used afterwards."""
        if self._broken is None:
            self.close()
            aside = "" if self.read_only else self._set_aside()
            set_aside = f", and was set aside as {aside}" if aside else ""
            self._broken = BuildError(
                f"the store {self._root!r}: the catalogue is damaged ({why}){set_aside}",
                hint=f"mend or remove {self._path!r}"
                if self.read_only
                else "try again: images stay, and what was cached is built anew",
            )
        return self._broken

    def _inode(self) -> int:
        try:
            return os.stat(self._path).st_ino
        except FileNotFoundError:
            return 0

    # opening

    def _open(self) -> sqlite3.Connection:
        db = connect(self._path, timeout=TIMEOUT)
        try:
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal" or _version(db) == 0:
                self._make(db)
            db.execute("PRAGMA synchronous=NORMAL")
            self._bring_up(db)
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            with suppress(sqlite3.Error):
                db.close()
            raise
        return db

    def _bring_up(self, db: sqlite3.Connection) -> None:
        version = _version(db)
        if version > self._schema.version:
            raise BuildError(
                f"the store {self._root!r} was made by a newer buildfront: its catalogue has version {version}, and "
                f"this one knows {self._schema.version}",
                hint="use that buildfront, or another store with --root or BUILDFRONT_ROOT",
            )
        if version < self._schema.version:
            self._schema.upgrade(db)

    def _make(self, db: sqlite3.Connection) -> None:
        """Make the tables, once in a store's life and one program at a time.

        SQLite itself does not wait here for another program that does the same, however long its timeout
        (sqlite3_busy_handler, "the busy handler is not invoked").
        """
        with locked_directory(self._root):
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                db.execute("PRAGMA journal_mode=WAL")
            if _version(db) != 0:
                return
            above = f"INSERT INTO sqlite_sequence(name, seq) VALUES('snapshots', {self._clear_snapshots()});"
            made = f"{self._schema.tables}{above}PRAGMA user_version={self._schema.version};"
            db.executescript(f"BEGIN;{made}COMMIT;")

    def _clear_snapshots(self) -> int:
        """Move snapshots that no catalogue knows to where the next build removes them. Return the highest number."""
        directory = os.path.join(self._root, "snapshots")
        try:
            numbers = [int(name) for name in os.listdir(directory) if name.isascii() and name.isdecimal()]
        except OSError:
            return 0
        numbers = [number for number in numbers if number < 1 << 62]
        if not numbers:
            return 0
        with abandoned_directory(os.path.join(self._root, "tmp")) as grave:
            for number in numbers:
                os.rename(os.path.join(directory, str(number)), os.path.join(grave, str(number)))
        return max(numbers)

    # damage

    def _replace(self, error: sqlite3.Error) -> sqlite3.Connection:
        aside = self._set_aside()
        if aside:
            self.warnings.append(
                f"the catalogue was damaged ({error}), and was set aside as {aside}; what was cached is built anew"
            )
        try:
            db = self._open()
            self._opened = self._inode()
        except sqlite3.Error as again:
            raise told(self._root, again) from None
        return db

    def _set_aside(self) -> str:
        """Rename the file, and return its new name; return the empty string if another program has done so."""
        try:
            with locked_directory(self._root):
                if self._inode() != self._opened:
                    return ""
                number = 1
                while os.path.lexists(f"{self._path}.damaged-{number}"):
                    number += 1
                aside = f"{self._path}.damaged-{number}"
                for end in ("-wal", "-shm", ""):
                    with suppress(FileNotFoundError):
                        os.rename(self._path + end, aside + end)
                return os.path.basename(aside)
        except OSError as error:
            raise told(self._root, error) from None

    # reading only

    def _open_in_memory(self, error: sqlite3.Error) -> sqlite3.Connection:
        """Open a copy in memory of what can be read; ``read_only`` is the reason."""
        self.read_only = self._reason() or str(error)
        db = connect(":memory:")
        try:
            if os.path.exists(self._path) and os.path.getsize(self._path):
                self._read_into(db)
            if _version(db) == 0:
                db.executescript(f"{self._schema.tables}PRAGMA user_version={self._schema.version};")
            self._bring_up(db)
        except (OSError, sqlite3.Error) as again:
            db.close()
            raise told(self._root, again) from None
        except BaseException:
            db.close()
            raise
        return db

    def _read_into(self, db: sqlite3.Connection) -> None:
        from urllib.parse import quote

        log = self._path + "-wal"
        if not (os.path.exists(log) and os.path.getsize(log)):
            # It can't change, and its log is empty: the file has everything.
            uri = f"file:{quote(os.fsencode(self._path))}?mode=ro&immutable=1"
            with closing(connect(uri, uri=True)) as source:
                source.backup(db)
            return
        import shutil
        import tempfile

        with tempfile.TemporaryDirectory(prefix="buildfront-") as directory:
            copy = os.path.join(directory, "catalogue.sqlite")
            shutil.copyfile(self._path, copy)
            shutil.copyfile(log, copy + "-wal")
            with closing(connect(copy)) as source:
                source.backup(db)

    def _reason(self) -> str:
        """Return the kernel's reason why nothing can be written beside the file, the empty string if it can be."""
        import tempfile

        try:
            with tempfile.TemporaryFile(dir=os.path.join(self._root, "tmp")) as stream:
                stream.write(b"\0" * 65536)
                stream.flush()
            os.close(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return error.strerror or str(error)
        return ""


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
