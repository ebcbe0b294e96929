"""A build context that comes as a tar archive, from a file or from standard input."""

from __future__ import annotations

import os

from run_step import Root

from ..errors import BuildError
from ..image.compression import reader, unreadable
from ..image.layer import Applier
from ..image.tar_header import ArchiveError
from .standard_input import standard_input


def unpack(context: str, directory: str) -> None:
    """Unpack the archive into an empty directory. Its files belong to the caller then.

    Raises BuildError where it can't be read, is damaged, or holds something that can't be unpacked.
    """
    try:
        stream = standard_input() if context == "-" else open(context, "rb")
    except OSError as error:
        raise BuildError(f"the context {context} can't be read: {error.strerror}") from None
    try:
        with Root(directory) as root:
            Applier(root, whiteouts=False, owner=(os.geteuid(), os.getegid())).apply(reader(stream))
    except unreadable() as error:
        raise BuildError(f"the context {context} is not a tar archive, or is cut off: {error}") from None
    except ArchiveError as error:
        error.what = f"the context {context} can't be unpacked: {error.what}"
        raise
    finally:
        if context != "-":
            stream.close()
