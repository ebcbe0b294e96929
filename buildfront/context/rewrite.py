"""A file of the user, written anew: whole or not at all, and only if it is still what was read."""

from __future__ import annotations

import os
import stat

from ..errors import BuildError


def rewrite(path: str, before: str, after: str) -> None:
    """Replace a file's text ``before`` by ``after``. The file keeps its mode and its owner.

    Both are as :func:`buildfront.context.directory.open_source` reads them. Raises BuildError where the path is a link,
    no regular file, or holds another text by now; then nothing has changed.
    """
    try:
        _rewrite(path, _bytes(before), _bytes(after))
    except OSError as error:
        raise BuildError(f"{path} can't be written: {error.strerror}") from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _rewrite(path: str, before: bytes, after: bytes) -> None:
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    name = os.path.basename(path)
    temporary = f".{name[:200]}.{os.getpid()}"
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            what = "a link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            raise BuildError(f"{path} is {what}, so it is not changed", hint="name the file itself with -f")
        made = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        try:
            with os.fdopen(made, "wb") as stream:
                stream.write(after)
                stream.flush()
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(made, status.st_uid, status.st_gid)
                os.fchmod(made, stat.S_IMODE(status.st_mode))
                os.fsync(made)
            if _read(name, directory, len(before)) != before:
                raise BuildError(f"{path} has changed since it was checked", hint="check it again")
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
    finally:
        os.close(directory)


def _read(name: str, directory: int, most: int) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(fd, "rb") as stream:
        return stream.read(most + 1)
