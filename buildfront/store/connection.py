"""SQLite connections whose errors are all :class:`sqlite3.Error`.

Messages of SQLite quote the file, for instance the name of a damaged index. Where such bytes are not UTF-8, Python's
module fails to make a text of the message, and raises UnicodeDecodeError in place of the error itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _readable_errors(cursor: sqlite3.Cursor | None = None) -> Iterator[None]:
    """Turn a message that is not UTF-8 into a DatabaseError, whose code says that the file is damaged.

    The cursor is closed on an error. The traceback keeps it, and a connection that is closed with an open statement
    leaves its log behind.
    """
    try:
        yield
    except sqlite3.Error:
        if cursor is not None:
            cursor.close()
        raise
    except UnicodeDecodeError as error:
        if cursor is not None:
            cursor.close()
        damage = sqlite3.DatabaseError(error.object.decode("utf-8", "backslashreplace"))
        # The result code is lost, but only the content of the file can have put such bytes into a message.
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        damage.sqlite_errorname = "SQLITE_CORRUPT"
        raise damage from None


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> _Cursor:
        with _readable_errors(self):
            super().execute(sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Any, /) -> _Cursor:
        with _readable_errors(self):
            super().executemany(sql, parameters)
        return self

    def executescript(self, sql: str, /) -> _Cursor:
        with _readable_errors(self):
            super().executescript(sql)
        return self

    def fetchone(self) -> Any:
        with _readable_errors(self):
            return super().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        with _readable_errors(self):
            return super().fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        with _readable_errors(self):
            return super().fetchall()

    def __next__(self) -> Any:
        with _readable_errors(self):
            return super().__next__()


class Connection(sqlite3.Connection):
    """A connection for :func:`sqlite3.connect`'s ``factory``. Its statements raise no error but ``sqlite3.Error``."""

    def cursor(self, factory: Any = _Cursor) -> Any:
        """Return a cursor whose errors are readable."""
        return super().cursor(factory)

    def execute(self, sql: str, parameters: Any = (), /) -> _Cursor:
        """Execute one statement with a new cursor. The inherited method would make a cursor of the plain class."""
        return _Cursor(self).execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> _Cursor:
        """Execute a statement for each row of ``parameters``."""
        return _Cursor(self).executemany(sql, parameters)

    def executescript(self, sql: str, /) -> _Cursor:
        """Execute the statements of a script."""
        return _Cursor(self).executescript(sql)

    def commit(self) -> None:
        """Commit the transaction."""
        with _readable_errors():
            super().commit()

    def rollback(self) -> None:
        """Roll the transaction back."""
        with _readable_errors():
            super().rollback()

    def backup(
        self,
        target: sqlite3.Connection,
        *,
        pages: int = -1,
        progress: Callable[[int, int, int], object] | None = None,
        name: str = "main",
        sleep: float = 0.25,
    ) -> None:
        """Copy the database into ``target``."""
        with _readable_errors():
            super().backup(target, pages=pages, progress=progress, name=name, sleep=sleep)


def connect(database: str, *, timeout: float = 5.0, uri: bool = False) -> Connection:
    """Open a database in autocommit mode, for any thread."""
    with _readable_errors():
        return sqlite3.connect(
            database,
            timeout=timeout,
            uri=uri,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
