"""The files of an image layout or an image archive, read by name: of a directory, or of a tar in any compression.

Neither is trusted. A tar is indexed once. One that is compressed, or that comes through a pipe, is first written to a
file without a name, so nothing of it can be left behind.
"""

from __future__ import annotations

import io
import os
import posixpath
import select
import stat
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any

from ..errors import BuildError
from .compression import damaged, kind, reader, unreadable
from .documents import LIMIT
from .tar_header import BLOCK, ArchiveError
from .tar_reader import FILE, HARD_LINK, SYMLINK, TarReader

_MAX_FILES = 100_000
_MAX_NAMES = 16 << 20
_LINKS = 8
_WAIT = 30.0
"""Seconds to wait for a program that writes to a FIFO."""


def open_archive(path: str, place: str) -> IO[bytes]:
    """Open an archive to read and to seek in; what comes through a FIFO is first written to a file in ``place``.

    Raise BuildError for anything but a regular file or a FIFO that a program writes to.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        stream: IO[bytes] = os.fdopen(os.open(path, flags), "rb")
    except FileNotFoundError:
        raise BuildError(f"{path} does not exist") from None
    except OSError as error:  # a directory too
        raise BuildError(f"{path} can't be read: {error.strerror}") from None
    mode = os.fstat(stream.fileno()).st_mode
    if stat.S_ISREG(mode):
        return stream
    with stream:
        if not stat.S_ISFIFO(mode):
            raise BuildError(f"{path} is neither a file nor a pipe", hint="name an archive")
        first = _first_bytes(path, stream.fileno())
        try:
            spool: IO[bytes] = tempfile.TemporaryFile(dir=place)
            while first:
                spool.write(first)
                first = stream.read(1 << 20)
            spool.seek(0)
        except OSError as error:
            raise BuildError(f"{path} can't be read: {error.strerror}") from None
    return spool


def _first_bytes(path: str, fd: int) -> bytes:
    end = time.monotonic() + _WAIT
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    while True:
        waiting.poll(100)
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:  # a program has it open for writing, and has not written yet
            end = float("inf")
            continue
        if data or end == float("inf"):
            os.set_blocking(fd, True)
            return data
        if time.monotonic() > end:
            raise BuildError(f"no program writes to the pipe {path}")
        time.sleep(0.05)  # poll(2) does not wait once a writer has come and gone


class _Spooled:
    """A reader of a stream that writes all that is read to a file."""

    def __init__(self, stream: Any, out: IO[bytes]) -> None:
        self._stream = stream
        self._out = out

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        self._out.write(data)
        return data


class _Slice(io.RawIOBase):
    """A part of a file that has its own position."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd, self._offset, self._size = fd, offset, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        data = os.pread(self._fd, wanted, self._offset + self._at)
        if not data:
            raise EOFError("it ends too early")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class LayoutFiles:
    """The files of the directory or archive ``path``. The constructor raises BuildError if it is neither.

    ``place`` is a directory where a compressed archive is kept, without a name; by default that for temporary files.
    """

    def __init__(self, path: str, place: str = "") -> None:
        self.path = path
        self._members: dict[str, tuple[int, int] | str] = {}
        self._sparse: set[str] = set()
        self._file: IO[bytes] | None = None
        if os.path.isdir(path):
            return
        place = place or tempfile.gettempdir()
        stream = open_archive(path, place)
        try:
            compressed = kind(stream.read(BLOCK)) != "plain"
            stream.seek(0)
            if compressed:
                with stream:
                    self._file = tempfile.TemporaryFile(dir=place)
                    self._index(TarReader(_Spooled(reader(stream), self._file)))
                    self._file.flush()
            else:
                self._file = stream
                self._index(TarReader(stream, seekable=True, chunk=1 << 16))
        except ArchiveError as error:
            stream.close()
            raise BuildError(f"{path} is not an image archive, or is cut off: {error.what}") from None
        except damaged() as error:
            stream.close()
            raise BuildError(f"{path} is not an image archive, or is cut off: {error}") from None
        except OSError as error:
            stream.close()
            raise BuildError(f"{path} can't be read or uncompressed: {error.strerror or error}") from None

    def _index(self, archive: TarReader) -> None:
        """Note where each member is. Of two with the same name the last counts, as when they are unpacked."""
        length = 0
        for member in archive:
            name = posixpath.normpath("/" + member.name).lstrip("/")
            length += len(name) + len(member.link)
            if len(self._members) > _MAX_FILES or length > _MAX_NAMES:
                raise ArchiveError("it has too many files for an image archive")
            self._sparse.discard(name)
            if member.kind is FILE:
                self._members[name] = archive.offset, member.size
                if archive.sparse:
                    self._sparse.add(name)
            elif member.kind is HARD_LINK:
                self._members[name] = posixpath.normpath("/" + member.link).lstrip("/")
            elif member.kind is SYMLINK:
                target = posixpath.join("/", posixpath.dirname(name), member.link)
                self._members[name] = posixpath.normpath(target).lstrip("/")
            else:
                self._members.pop(name, None)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self._members if self._file else os.path.isfile(os.path.join(self.path, name))

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read and to seek in. Raise BuildError if there is none."""
        if self._file is None:
            return self._open_in_directory(name)
        asked = name
        for _ in range(_LINKS):
            found = self._members.get(name)
            if found is None:
                break
            if isinstance(found, str):
                name = found
                continue
            if name in self._sparse:
                raise BuildError(f"{asked} in {self.path} is a sparse file, which no image archive has")
            return io.BufferedReader(_Slice(self._file.fileno(), *found), 1 << 18)
        raise BuildError(f"{self.path} lacks {asked}")

    def _open_in_directory(self, name: str) -> IO[bytes]:
        # A FIFO would be waited for, a device may do anything.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(os.path.join(self.path, name), flags)
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            raise BuildError(f"{self.path} lacks {name}: {what}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BuildError(f"{name} in {self.path} is not a regular file")
        return os.fdopen(fd, "rb")

    def read(self, name: str) -> bytes:
        """Return the content of a document. Raise BuildError if it is too large."""
        with self.open(name) as stream:
            try:
                data = stream.read(LIMIT + 1)
            except damaged() as error:
                raise BuildError(f"{self.path} is cut off in {name}: {error}") from None
            except OSError as error:
                raise BuildError(f"{name} in {self.path} can't be read: {error.strerror}") from None
        if len(data) > LIMIT:
            raise BuildError(f"{name} in {self.path} is too large")
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file."""
        with self.open(name) as stream:
            try:
                while data := stream.read(1 << 20):
                    yield data
            except unreadable() as error:
                raise BuildError(f"{self.path} is cut off in {name}: {error}") from None
