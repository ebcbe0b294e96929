"""The catalogue: the knowledge of the store beyond its blobs, in SQLite (WAL, so that builds may run side by side)."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, NamedTuple

from ..errors import BuildError
from ..image.descriptor import Descriptor, Layer
from ..image.digest import Digest
from .database import Database, Schema
from .failure import is_damage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS snapshots(
  id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER, empty INTEGER NOT NULL DEFAULT 0,
  diff_id TEXT, digest TEXT, size INTEGER, media_type TEXT, created INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS chains(chain_id TEXT PRIMARY KEY, snapshot INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS steps(
  key TEXT PRIMARY KEY, slot TEXT NOT NULL, snapshot INTEGER, changed INTEGER NOT NULL,
  components TEXT NOT NULL, wall_us INTEGER NOT NULL, created INTEGER NOT NULL, usage TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS steps_slot ON steps(slot, created);
"""

_CONTENTS = """
CREATE TABLE IF NOT EXISTS contents(
  source TEXT, snapshot INTEGER NOT NULL, selector TEXT, digest TEXT NOT NULL,
  PRIMARY KEY(source, snapshot, selector));
"""

_FILES = """
CREATE TABLE IF NOT EXISTS files(
  dev INTEGER, ino INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER, digest TEXT NOT NULL,
  PRIMARY KEY(dev, ino)) WITHOUT ROWID;
"""

_LAYERS = """
CREATE TABLE IF NOT EXISTS layers(digest TEXT, diff_id TEXT, PRIMARY KEY(digest, diff_id)) WITHOUT ROWID;
"""

_VERSION = 3
"""The version of the tables. 2: steps keep the resources that they used. 3: the digest of a step's files belongs to one
snapshot of the step; earlier digests of files may be of some that changed while they were read; layers that were
compared with their diff IDs are noted."""

_NO_SNAPSHOT = 0
"""Stands for the result that is an image itself, which its key identifies; SQLite counts from 1."""


class SnapshotRow(NamedTuple):
    """One committed change of a root filesystem; the layer's columns are empty until its blob is written."""

    id: int
    parent: int | None
    empty: bool
    diff_id: Digest | None
    digest: Digest | None
    size: int | None
    media_type: str | None
    created: int

    @property
    def layer(self) -> Layer | None:
        """The layer, None if its blob is not written yet."""
        if self.diff_id is None or self.digest is None:
            return None
        return Layer(Descriptor(self.media_type or "", self.digest, self.size or 0), self.diff_id)


class StepRow(NamedTuple):
    """A step that ran, and its result. ``changed`` false: the result is its parent's."""

    snapshot: int | None
    changed: bool
    components: str


def _signed(number: int) -> int:
    """Return an inode number as a signed one: SQLite's integers have a sign, and some filesystems use all 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def _fits(*numbers: int) -> bool:
    """Whether SQLite can hold them: a file may be dated after the year 2262, in nanoseconds too much for 64 bits."""
    return all(-(1 << 63) <= number < 1 << 63 for number in numbers)


def _is_sound(row: SnapshotRow) -> bool:
    """Whether the values are of the types that they were written with; numbers grow, so a parent has a lower one."""
    texts = (row.diff_id, row.digest, row.media_type)
    return (
        (row.parent is None or (isinstance(row.parent, int) and 0 < row.parent < row.id))
        and all(text is None or isinstance(text, str) for text in texts)
        and (row.size is None or isinstance(row.size, int))
        and isinstance(row.created, int)
    )


class Catalogue:
    """One connection, shared by the threads of a build under a lock.

    A missing catalogue is made, a damaged one is set aside and made anew (:mod:`.database`). Methods raise BuildError
    if the disk or the content does not allow it. ``read_only`` is the reason why nothing can be kept, if there is one:
    then only this object knows what is set. ``warnings`` are for the user.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._file = Database(path, Schema(_VERSION, _SCHEMA + _CONTENTS + _FILES + _LAYERS, self._upgrade))
        self._db = self._file.connection
        self.read_only = self._file.read_only
        self.warnings = self._file.warnings

    @staticmethod
    def _upgrade(db: sqlite3.Connection) -> None:
        """Upgrade an older store's tables to this version; of two programs at once, one does it."""
        db.execute("BEGIN IMMEDIATE")
        try:
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found < 2:
                db.execute("ALTER TABLE steps ADD COLUMN usage TEXT NOT NULL DEFAULT '{}'")
            if found < 3:
                db.execute("DROP TABLE IF EXISTS contents")
                db.execute(_CONTENTS)
                db.execute("DELETE FROM files")
                db.execute(_LAYERS)
            db.execute(f"PRAGMA user_version={_VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the connection."""
        self._file.close()

    def _one(self, sql: str, *args: Any) -> Any:
        with self._lock, self._file.telling():
            return self._db.execute(sql, args).fetchone()

    def _do(self, sql: str, *args: Any) -> int:
        with self._lock, self._file.telling():
            return self._db.execute(sql, args).lastrowid or 0

    def _remember(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Add all rows or none. If there is no room for them, they are only not known the next time."""
        with self._lock, self._file.telling():
            self._db.execute("BEGIN")
            try:
                self._db.executemany(sql, rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if is_damage(error):
                    raise

    def meta(self, name: str) -> str | None:
        """Return a setting of this store, None if it is not set."""
        row = self._one("SELECT value FROM meta WHERE name=?", name)
        return str(row[0]) if row else None

    def settle_meta(self, name: str, value: str) -> str:
        """Set a setting unless it is set, maybe by another process, and return its value."""
        self._do("INSERT OR IGNORE INTO meta VALUES(?,?)", name, value)
        return self.meta(name) or value

    def new_snapshot(self, parent: int | None, empty: bool, now: int) -> int:
        """Return the number of a new snapshot. The caller puts the directory in place."""
        return self._do(
            "INSERT INTO snapshots(parent, empty, created) VALUES(?,?,?)", parent, int(empty), now
        )

    def drop_snapshot(self, number: int) -> None:
        """Forget a snapshot whose directory could not be put in place."""
        self._do("DELETE FROM snapshots WHERE id=?", number)

    def set_layer(self, number: int, diff_id: str, digest: str, size: int, media_type: str) -> None:
        """Note the layer of a snapshot, whose blob is there."""
        sql = "UPDATE snapshots SET diff_id=?, digest=?, size=?, media_type=? WHERE id=?"
        self._do(sql, diff_id, digest, size, media_type, number)

    def snapshot(self, number: int) -> SnapshotRow | None:
        """Return the row of a snapshot, None if it is not known."""
        sql = "SELECT id, parent, empty, diff_id, digest, size, media_type, created FROM snapshots WHERE id=?"
        row = self._one(sql, number)
        if row is None:
            return None
        found = SnapshotRow(row[0], row[1], bool(row[2]), *row[3:])
        if not _is_sound(found):
            raise self._file.damaged(f"the snapshot {number} is malformed")
        digests = [None if text is None else Digest(text) for text in (found.diff_id, found.digest)]
        return found._replace(diff_id=digests[0], digest=digests[1])

    def lineage(self, number: int | None) -> list[SnapshotRow]:
        """Return a snapshot and its ancestors, the topmost first; nothing if the snapshot is not known.

        Raise BuildError if an ancestor is not known.
        """
        out: list[SnapshotRow] = []
        while number is not None:
            row = self.snapshot(number)
            if row is None and out:
                raise BuildError(f"the snapshot {out[0].id} has lost what it lies on", hint="build again")
            if row is None:
                break
            out.append(row)
            number = row.parent  # always a lower one: see _is_sound
        return out

    def chain(self, chain_id: str) -> int | None:
        """Return the snapshot that holds a stack of image layers."""
        row = self._one("SELECT snapshot FROM chains WHERE chain_id=?", chain_id)
        return row[0] if row and isinstance(row[0], int) else None

    def set_chain(self, chain_id: str, snapshot: int) -> None:
        """Note the snapshot that holds a stack of image layers."""
        self._do("INSERT OR REPLACE INTO chains VALUES(?,?)", chain_id, snapshot)

    def step(self, key: str) -> StepRow | None:
        """Return the result of an earlier run with this key."""
        row = self._one("SELECT snapshot, changed, components FROM steps WHERE key=?", key)
        if row is None:
            return None
        if not (row[0] is None or isinstance(row[0], int)) or not isinstance(row[2], str):
            raise self._file.damaged(f"the step {key[:12]} is malformed")
        return StepRow(row[0], bool(row[1]), row[2])

    def set_step(
        self,
        key: str,
        slot: str,
        snapshot: int | None,
        changed: bool,
        components: str,
        wall_us: int,
        now: int,
        usage: str = "{}",
    ) -> None:
        """Note a result.

        ``slot`` is the place in the Dockerfile, for comparing with earlier runs; ``usage`` the resources that a RUN
        used, as JSON.
        """
        sql = "INSERT OR REPLACE INTO steps VALUES(?,?,?,?,?,?,?,?)"
        self._do(sql, key, slot, snapshot, int(changed), components, wall_us, now, usage)

    def run_time(self, words: str) -> int | None:
        """Return the microseconds that the last RUN took whose command has these words, as JSON has them."""
        sql = "SELECT wall_us FROM steps WHERE slot LIKE '%:run' AND instr(components, ?) ORDER BY created DESC LIMIT 1"
        row = self._one(sql, words)
        return row[0] if row and isinstance(row[0], int) else None

    def forget_step(self, key: str) -> None:
        """Forget a result whose snapshot is gone."""
        self._do("DELETE FROM steps WHERE key=?", key)

    def content(self, source: str, snapshot: int | None, selector: str) -> str | None:
        """Return the digest of files that were selected from the result of a step, one of the runs with its key."""
        sql = "SELECT digest FROM contents WHERE source=? AND snapshot=? AND selector=?"
        row = self._one(sql, source, snapshot or _NO_SNAPSHOT, selector)
        return row[0] if row else None

    def set_content(self, source: str, snapshot: int | None, selector: str, digest: str) -> None:
        """Note the digest of files that were selected from the result of a step."""
        sql = "INSERT OR REPLACE INTO contents VALUES(?,?,?,?)"
        self._do(sql, source, snapshot or _NO_SNAPSHOT, selector, digest)

    def forget_contents(self, source: str) -> None:
        """Forget the digests of a step that runs again: its earlier results are hardly asked for any more."""
        self._do("DELETE FROM contents WHERE source=?", source)

    def is_layer(self, digest: str, diff_id: str) -> bool:
        """Whether the blob was found to hold the tar of this diff ID."""
        same = "WHERE digest=?1 AND diff_id=?2"
        sql = f"SELECT 1 FROM layers {same} UNION SELECT 1 FROM snapshots {same}"
        return self._one(sql, digest, diff_id) is not None

    def set_layers(self, pairs: list[tuple[str, str]]) -> None:
        """Note blobs and their diff IDs."""
        self._remember("INSERT OR IGNORE INTO layers VALUES(?,?)", [*pairs])

    def file(self, dev: int, ino: int, size: int, mtime: int, ctime: int) -> str | None:
        """Return the digest of a file of the host that has not changed since it was hashed."""
        dev, ino = _signed(dev), _signed(ino)
        if not _fits(size, mtime, ctime):
            return None
        sql = "SELECT digest FROM files WHERE dev=? AND ino=? AND size=? AND mtime=? AND ctime=?"
        row = self._one(sql, dev, ino, size, mtime, ctime)
        return row[0] if row else None

    def set_files(self, rows: list[tuple[int, int, int, int, int, str]]) -> None:
        """Note digests of files: (dev, ino, size, mtime_ns, ctime_ns, digest)."""
        rows = [(_signed(row[0]), _signed(row[1]), *row[2:]) for row in rows if _fits(*row[2:5])]
        self._remember("INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?)", rows)
