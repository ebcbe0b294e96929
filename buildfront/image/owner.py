"""Owners of files, and the error for those that this user namespace has no ID for."""

from __future__ import annotations

import errno
import os

from ..errors import BuildError


def own(path: str | int, uid: int, gid: int, *, dir_fd: int | None = None, shown: str = "") -> None:
    """Change the owner with lchown(2), or fchown(2) for a descriptor.

    Raise BuildError if the owner can't exist here, OSError for all else.
    """
    try:
        if isinstance(path, int):
            os.chown(path, uid, gid)
        else:
            os.chown(path, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise BuildError(
            f"{shown or repr(path)} belongs to {uid}:{gid}, and this user namespace has no such ID",
            hint="give the user more IDs (usermod --add-subuids, --add-subgids), or build as root",
        ) from None
