"""The directory of a store: made, checked, closed to others. Whatever is missing is made again.

Everything lies below one directory of mode 0700. So no other user reaches the files of images and steps: programs
with the set-user-ID bit, files that only their owner may read, build arguments. Directories further below may be
searched by all, because steps with other users of the machine have to pass there, in mount namespaces of their own.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import BuildError
from .failure import telling
from .index import ImageIndex
from .location import check

_FILES = (
    "oci-layout",
    "index.json",
    "index.lock",
    *(f"catalogue.sqlite{end}" for end in ("", "-wal", "-shm")),
)
_DIRECTORIES = {
    "blobs": 0o755,
    "blobs/sha256": 0o755,
    "snapshots": 0o700,
    "tmp": 0o711,
    "caches": 0o700,
    "memo": 0o700,
    "downloads": 0o700,
}
"""The directories that may be there, and the modes that they are made with."""

_NEEDED = ("blobs", "blobs/sha256", "snapshots", "tmp")


def open_layout(root: str) -> None:
    """Make what is missing of the store at ``root``, and close it to others.

    Raise BuildError for a place that others could change, and for entries that are not ours or of another kind; this
    happens before anything of the store is read.
    """
    if "\0" in root:
        raise BuildError(f"the store {root!r} can't be reached: a path holds no NUL")
    check(root)
    try:
        if _make_root(root):
            check(root)  # another user may have been faster
    except OSError as error:
        raise BuildError(
            f"the store {root!r} can't be made: {error.strerror}",
            hint="choose another place with --root or BUILDFRONT_ROOT",
        ) from None
    with telling(root):
        _close(root)
        there = _look(root)
        for name in _NEEDED:
            if name not in there:
                _make_directory(os.path.join(root, name), _DIRECTORIES[name])
        if "index.json" not in there:
            ImageIndex(root).change(lambda items: items)
        if "oci-layout" not in there:
            _write(root, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _make_root(root: str) -> bool:
    """Make the directory and those above it. Return whether anything had to be made."""
    if os.path.isdir(root):
        return False
    head = os.path.dirname(root)
    missing = []
    while not os.path.isdir(head):
        missing.append(head)
        head = os.path.dirname(head)
    for path in reversed(missing):
        _make_directory(path, 0o755)
    _make_directory(root, 0o700)
    return True


def _make_directory(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return  # another program was first
    os.chmod(path, mode)  # whatever our umask


def _close(root: str) -> None:
    """Remove the permissions of others: stores of earlier versions could be searched."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
            os.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o700)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    finally:
        os.close(fd)


def _look(root: str) -> set[str]:
    """Return the names of the store's entries that are there.

    Raise BuildError for an entry that is not ours or of the wrong type: before the directory was closed, another user
    could have put it there.
    """
    there = set()
    for name in (*_FILES, *_DIRECTORIES):
        try:
            status = os.lstat(os.path.join(root, name))
        except FileNotFoundError:
            continue
        there.add(name)
        wanted = name in _DIRECTORIES
        if not (stat.S_ISDIR if wanted else stat.S_ISREG)(status.st_mode):
            raise BuildError(
                f"the store {root!r}: {name} is {_kind(status.st_mode)}, and not a {'directory' if wanted else 'file'}",
                hint="see who put it there, and move it away: what belongs there is made anew",
            )
        if status.st_uid not in (os.geteuid(), 0):
            raise BuildError(
                f"the store {root!r}: {name} belongs to the user {status.st_uid}, and the store does not",
                hint="give it to yourself (chown), if it is yours, or move it away: it is made anew",
            )
    return there


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFREG: "a file", stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO",
             stat.S_IFSOCK: "a socket"}  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "a device")


def _write(root: str, name: str, data: bytes) -> None:
    """Write a small file, which is complete or not there."""
    path = os.path.join(root, name)
    temporary = f"{path}.{os.getpid()}.new"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o644)
    except FileExistsError:  # of a program that was killed, and had our number
        os.unlink(temporary)
        fd = os.open(temporary, flags, 0o644)
    try:
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(fd, 0o644)  # whatever our umask
            stream.write(data)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
