"""Errors of the system and of SQLite as BuildErrors, which name the store, the path, the reason and a remedy.

It is done only here. :meth:`Store.__exit__` converts every such error that was not converted before.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BuildError

_ELSEWHERE = "or choose another place with --root or BUILDFRONT_ROOT"
_REMEDIES = {
    errno.ENOSPC: f"make room there (df, df -i; buildfront prune removes cache mounts), {_ELSEWHERE}",
    errno.EDQUOT: f"make room there (quota), {_ELSEWHERE}",
    errno.EROFS: f"make its filesystem writable, {_ELSEWHERE}",
    errno.EACCES: f"see who owns it and its modes, {_ELSEWHERE}",
    errno.EPERM: f"see who owns it and its modes, {_ELSEWHERE}",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (sysctl fs.file-max)",
    errno.E2BIG: "make fewer layers, or use a new store with BUILDFRONT_SNAPSHOTS=copy",
    errno.EIO: "see what the kernel says of the disk (dmesg)",
    errno.ENAMETOOLONG: "choose a shorter path with --root or BUILDFRONT_ROOT",
    errno.ENOENT: "what was there has been removed meanwhile; try again",
}

_OF_THE_MACHINE = frozenset((
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH,
))  # fmt: skip
"""Result codes that say nothing of the file's content. Our statements are right: all others mean damage."""


def told(root: str, error: OSError | sqlite3.Error) -> BuildError:
    """Return an error as a BuildError that names the store, or the file if it is outside the store."""
    if isinstance(error, sqlite3.Error):
        return _of_the_catalogue(root, error)
    reason = error.strerror or str(error) or type(error).__name__
    name = error.filename
    name = os.fsdecode(name) if isinstance(name, str | bytes) else ""
    inside = name == root or name.startswith(root.rstrip("/") + "/")
    if name.startswith("/") and not inside:
        return BuildError(f"{name!r}: {reason}", hint=_REMEDIES.get(error.errno or 0, ""))
    place = f"{os.path.relpath(name, root)!r}: " if inside and name != root else ""
    remedy = _REMEDIES.get(error.errno or 0, _ELSEWHERE.removeprefix("or "))
    return BuildError(f"the store {root!r}: {place}{reason}", hint=remedy)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the catalogue's content is at fault, and not the disk, a lock or this program."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own: a text that is not UTF-8, or a misuse, which is our fault
        return isinstance(error, sqlite3.OperationalError)
    return code & 0xFF not in _OF_THE_MACHINE


def _of_the_catalogue(root: str, error: sqlite3.Error) -> BuildError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    what = f"the store {root!r}: the catalogue"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BuildError(
            f"{what} is locked by another program",
            hint=f"see which one has {root}/catalogue.sqlite open (fuser)",
        )
    if code == sqlite3.SQLITE_FULL:
        return BuildError(f"{what} can't be written: no space left", hint=_REMEDIES[errno.ENOSPC])
    return BuildError(
        f"{what} can't be used: {error}", hint="see whether its filesystem is full or read-only"
    )


@contextmanager
def telling(root: str) -> Iterator[None]:
    """Turn errors of the system and of SQLite into BuildErrors."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our output is gone: it has nothing to do with the store
    except (OSError, sqlite3.Error) as error:
        raise told(root, error) from error
