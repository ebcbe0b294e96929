"""The build context as a directory, and the Dockerfile and the ignore file that belong to it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from run_step import Root

from ..dockerfile import ignore
from ..errors import BuildError
from .archive import unpack
from .standard_input import standard_input

if TYPE_CHECKING:
    from ..store.image_store import Session

_LARGEST = 4 << 20
"""The size limit of a Dockerfile and of an ignore file, in bytes."""

_REMOTE = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")


@dataclass(frozen=True)
class DirectoryContext:
    """A directory, and the patterns of an ignore file that say which of its files do not belong to the context."""

    path: str
    ignore: ignore.Ignore

    def excludes(self, path: str) -> bool:
        """Whether the path counts as absent."""
        return self.ignore.excludes(path)

    @property
    def prune(self) -> bool:
        """Whether an excluded directory need not be entered, because no exception can lie in it."""
        return not self.ignore.has_exceptions


@dataclass(frozen=True)
class Source:
    """The Dockerfile's text and the build context.

    ``name`` is the name of the Dockerfile in errors; ``looked_at`` are the paths at which it and the ignore file were
    looked for, present or not.
    """

    text: str
    name: str
    context: DirectoryContext
    looked_at: tuple[str, ...] = ()


def is_archive(context: str) -> bool:
    """Whether a build context is an archive: ``-``, which is standard input, or a file."""
    return context == "-" or os.path.isfile(context)


def open_source(path: str, dockerfile: str, ignorefile: str, session: Session | None) -> Source:
    """Read the Dockerfile and the ignore file, and return them with the context.

    ``path``, ``dockerfile`` and ``ignorefile`` are as in :class:`buildfront.BuildOptions`. A context that is an
    archive is unpacked in ``session``. Raises BuildError that says what is missing or can't be read.
    """
    if path == "-" and dockerfile == "-":
        raise BuildError("the context and the Dockerfile can't both come from standard input")
    if path.startswith(_REMOTE):
        raise BuildError(
            f"a remote context ({path}) is not supported yet", hint="fetch it and name its directory"
        )
    directory = path.rstrip("/") or "/"
    if is_archive(path):
        if session is None:
            raise BuildError(f"the context {path} is an archive, which can't be used here")
        directory = session.directory("context")
        unpack(path, directory)
    elif not os.path.isdir(path):
        raise BuildError(
            f"the build context {path!r} does not exist", hint="name a directory, a tar file, or -"
        )
    place, text, name = _read_dockerfile(directory, dockerfile)
    looked_at = [*_dockerfile_paths(directory, dockerfile), *_ignore_paths(directory, place, ignorefile)]
    patterns = _ignore(directory, place, ignorefile)
    context = DirectoryContext(os.path.abspath(directory), patterns)
    return Source(text, name, context, tuple(os.path.abspath(item) for item in looked_at))


def _dockerfile_paths(directory: str, dockerfile: str) -> list[str]:
    if not dockerfile:
        return [os.path.join(directory, name) for name in ("Dockerfile", "Containerfile")]
    return [dockerfile] if os.path.isabs(dockerfile) else [dockerfile, os.path.join(directory, dockerfile)]


def _read_dockerfile(directory: str, dockerfile: str) -> tuple[str, str, str]:
    if dockerfile == "-":
        try:
            return "", _text(standard_input(), "the Dockerfile on standard input"), "-"
        except OSError as error:
            raise BuildError(f"standard input can't be read: {error.strerror}") from None
    for path in _dockerfile_paths(directory, dockerfile):
        try:
            text = _read(directory, path, given=path == dockerfile)
            return path, text, dockerfile if dockerfile else os.path.basename(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BuildError(f"{path} can't be read: {error.strerror}") from None
    if dockerfile:
        raise BuildError(f"the Dockerfile {dockerfile} does not exist", hint="give its path with -f")
    raise BuildError(
        f"there is no Dockerfile and no Containerfile in {directory}",
        hint="name it with -f, or another context",
    )


def _read(directory: str, path: str, *, given: bool) -> str:
    """Return a file's text. One that the user did not name belongs to the context: its links can't lead out of it.

    Raises BuildError where it is not a regular file: a device or a FIFO may never end.
    """
    if given:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    else:
        with Root(directory) as root:
            try:
                relative = os.path.relpath(path, directory)
                if (status := root.stat(relative)) is not None and not stat.S_ISREG(status.st_mode):
                    raise BuildError(f"{path} is not a regular file")
                fd = root.open(relative, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except FileNotFoundError:
                if os.path.islink(path):
                    raise BuildError(
                        f"{path} is a link that leads to nothing in the context",
                        hint="name the file with -f (or --ignorefile) where it is meant to be outside",
                    ) from None
                raise
    with os.fdopen(fd, "rb") as stream:
        return _text(stream, path)


def _text(stream: BinaryIO, name: str) -> str:
    """Return all of the text. Raises BuildError where it is too large: a device that was named may never end."""
    data = stream.read(_LARGEST + 1) or b""
    if len(data) > _LARGEST:
        raise BuildError(
            f"{name} is larger than {_LARGEST >> 20} MiB",
            hint="is another file meant? data belongs into the context",
        )
    return data.decode("utf-8", "surrogateescape")


def _ignore_paths(directory: str, dockerfile: str, ignorefile: str) -> list[str]:
    if ignorefile:
        return [ignorefile]
    beside = [dockerfile + ".dockerignore"] if dockerfile else []
    return beside + [os.path.join(directory, name) for name in (".containerignore", ".dockerignore")]


def _ignore(directory: str, dockerfile: str, ignorefile: str) -> ignore.Ignore:
    for path in _ignore_paths(directory, dockerfile, ignorefile):
        try:
            inside = os.path.abspath(path).startswith(os.path.abspath(directory).rstrip("/") + "/")
            return ignore.parse(_read(directory, path, given=bool(ignorefile) or not inside))
        except FileNotFoundError:
            if ignorefile:
                raise BuildError(f"the ignore file {ignorefile} does not exist") from None
        except OSError as error:
            raise BuildError(f"{path} can't be read: {error.strerror}") from None
    return ignore.Ignore(())
