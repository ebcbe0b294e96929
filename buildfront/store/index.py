"""``index.json`` of a store: which images it has and what they are called (OCI image layout).

It is the truth about names. Other tools read and write it too. A changed file is written beside and renamed, under a
lock; entries keep what other programs wrote in them.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ..errors import BuildError
from ..image.layout_index import LIMIT, REF_NAME, NamedEntry, dump_index, parse_index, too_deep
from .failure import telling


class ImageIndex:
    """The names of the store at ``root``. Methods raise BuildError if the index can't be used."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, "index.json")
        self._what = f"the store {root!r}: index.json can't be used"

    def read(self) -> list[NamedEntry]:
        """Return all entries, named or not."""
        with telling(self._root):
            try:
                fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
            with os.fdopen(fd, "rb") as stream, self._hinting():
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise BuildError(f"{self._what}: it is not a file")
                return parse_index(stream.read(LIMIT + 1), self._what)

    @contextmanager
    def _hinting(self) -> Iterator[None]:
        try:
            yield
        except BuildError as error:
            error.hint = "mend it, or move it away: images keep their content, and lose their names"
            raise

    def find(self, name: str) -> NamedEntry | None:
        """Return the entry with this name."""
        return next((entry for entry in self.read() if entry.name == name), None)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(os.path.join(self._root, "index.lock"), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def change(self, edit: Callable[[list[NamedEntry]], Iterable[NamedEntry]]) -> None:
        """Replace the entries by what ``edit`` returns for them; no other process changes them meanwhile."""
        with telling(self._root), self._locked():
            entries = self.read()
            with self._hinting():
                try:
                    data = dump_index(edit(entries), self._what, indent=1)
                except RecursionError:  # equal entries are looked for
                    raise too_deep(self._what) from None
            if len(data) > LIMIT:
                raise BuildError(
                    f"the store {self._root!r} has too many names: index.json would be larger than {LIMIT >> 20} MiB",
                    hint="use another store with --root or BUILDFRONT_ROOT",
                )
            temporary = self._path + ".new"
            try:
                os.unlink(temporary)  # of a program that was killed; we have the lock
            except FileNotFoundError:
                pass
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o644)
            try:
                with os.fdopen(fd, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(fd)
                os.rename(temporary, self._path)
            except BaseException:
                os.unlink(temporary)
                raise

    def set(self, name: str, entry: NamedEntry) -> None:
        """Give an image a name; the empty string only lists it. An image that had the name keeps its content."""

        def edit(entries: list[NamedEntry]) -> list[NamedEntry]:
            kept = [item.unnamed() if name and item.name == name else item for item in entries]
            return _tidy([*kept, entry.named(name)])

        self.change(edit)


def _tidy(entries: list[NamedEntry]) -> list[NamedEntry]:
    """Return the entries without duplicates, and without nameless ones for a digest that has a name."""
    named = {entry.digest for entry in entries if REF_NAME in entry.annotations}
    out: dict[str, NamedEntry] = {}
    for entry in entries:
        if REF_NAME in entry.annotations or entry.digest not in named:
            out.setdefault(json.dumps(entry.value, sort_keys=True), entry)
    return list(out.values())
