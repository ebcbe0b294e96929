"""A build context that comes as a tar archive, from a file or from standard input."""

from __future__ import annotations

import os
from typing import IO

from run_step import Root

from ..errors import BuildError
from ..image.compression import kind, reader, unreadable
from ..image.layer import Applier
from ..image.tar_header import BLOCK, ArchiveError, is_header


def is_archive(head: bytes) -> bool:
    """Return whether a file that begins so is a tar archive, or compressed and so perhaps one."""
    return is_header(head[:BLOCK]) or kind(head) != "plain"


def unpack(stream: IO[bytes], directory: str, what: str) -> None:
    """Unpack the archive into an empty directory. Its files belong to the caller then.

    Raises BuildError, which names ``what``, if it can't be read, is damaged, or holds something that can't be unpacked.
    """
    try:
        with Root(directory) as root:
            Applier(root, whiteouts=False, owner=(os.geteuid(), os.getegid())).apply(reader(stream))
    except unreadable() as error:
        raise BuildError(f"{what} is not a tar archive, or is cut off: {error}") from None
    except ArchiveError as error:
        error.what = f"{what} can't be unpacked: {error.what}"
        raise
