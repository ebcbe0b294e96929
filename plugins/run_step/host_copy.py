"""Copies of files of the host for one step: the sources of mounts.conf (row S66).

Their owner asked for them, so links are followed as on the host. The module makes no decisions.
"""

from __future__ import annotations

import os
import shutil
import stat

from .errors import HostError


def copy(source: str, target: str, owner: tuple[int, int]) -> None:
    """Copy a file or a directory, with modes and times, and give the copy to ``owner``, the step's root.

    ``target`` must not exist. Its parents are made, with access only for us. A dangling link in a directory
    is left out. Raises HostError, which names the file that can't be copied.
    """
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    try:
        _copy(source, target, owner)
    except OSError as error:
        where = error.filename or source
        raise HostError(
            f"{source}, which mounts.conf gives to every step, can't be copied: {where}: {error.strerror}"
        ) from None


def _copy(source: str, target: str, owner: tuple[int, int]) -> None:
    status = os.stat(source)
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(target, 0o700)
        for name in sorted(os.listdir(source)):
            entry = os.path.join(source, name)
            if os.path.exists(entry) or not os.path.islink(entry):
                _copy(entry, os.path.join(target, name), owner)
    else:
        # Non-blocking: a FIFO that has replaced the file must not hang the build.
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as reader:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "it is neither a file nor a directory", source)
            with os.fdopen(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
    os.chown(target, *owner)
    os.chmod(target, stat.S_IMODE(status.st_mode))  # after the owner, because chown clears set-ID bits
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
