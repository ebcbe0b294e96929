"""Archives that ADD unpacks: told from other files, and unpacked into a directory that nothing in them leaves."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from typing import IO

from run_step import Root

from .compression import first_bytes, reader, unreadable
from .layer_apply import Applier
from .tar_header import BLOCK, ArchiveError
from .tar_reader import Cancellable, Member, TarReader, shown

_KEPT = "security.capability"
"""The only attribute that an image of BuildKit has of an archive's files."""


def is_archive(stream: IO[bytes]) -> bool:
    """Return whether a file is a tar archive, compressed or not: whether its first entry can be read.

    What comes after it does not matter: an archive that is cut off later is one.
    """
    try:
        return next(iter(TarReader(first_bytes(stream), chunk=BLOCK)), None) is not None
    except ArchiveError:
        return False
    except unreadable():
        return False


def unpack(
    stream: IO[bytes], root: Root, path: str, owner: tuple[int, int] | None, check: Callable[[], None]
) -> None:
    """Unpack an archive into the directory ``path``, which stands for ``/`` in it: links can't lead out of it.

    ``owner`` owns all entries, if it is given; directories without an entry belong to root. ``check`` is called
    often, and may raise to end it. Raise ArchiveError for an archive that is damaged or cut off.
    """
    fd = root.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        with Root(f"/proc/self/fd/{fd}") as inside:
            applier = _ArchiveApplier(inside, whiteouts=False, owner=owner)
            applier.apply(Cancellable(reader(Cancellable(stream, check)), check))
    except unreadable() as error:
        raise ArchiveError(f"it is damaged or cut off: {error}") from None
    finally:
        os.close(fd)


class _ArchiveApplier(Applier):
    """Applies an archive as docker does."""

    def _top(self, member: Member) -> None:
        """Leave the directory as it is: its entry says nothing."""

    def _make_parents(self, head: str) -> None:
        missing = head
        while self.root.stat(missing) is None:
            if self.root.lstat(missing) is not None:
                raise ArchiveError(f"the tar leads through a link to nothing: {shown(missing)}")
            missing = posixpath.dirname(missing)
        super()._make_parents(head)

    def _implied_owner(self) -> tuple[int, int]:
        return 0, 0

    def _xattrs(self, member: Member, place: str | int) -> None:
        kept = {key: value for key, value in member.xattrs.items() if key == _KEPT}
        if kept:
            super()._xattrs(member._replace(xattrs=kept), place)
