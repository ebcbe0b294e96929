"""The build context as a directory, and the Dockerfile and the ignore file that belong to it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import IO

from run_step import Root

from ..dockerfile import ignore
from ..errors import BuildError
from .origin import Places
from .standard_input import standard_input

_LARGEST = 4 << 20
"""The size limit of a Dockerfile and of an ignore file, in bytes."""

_IGNORES = (".containerignore", ".dockerignore")


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
    looked for, present or not. ``local``: both are files that the user's directory has, or that the user named.
    """

    text: str
    name: str
    context: DirectoryContext
    looked_at: tuple[str, ...] = ()
    local: bool = True


def open_source(path: str, dockerfile: str, ignorefile: str, places: Places) -> Source:
    """Read the Dockerfile and the ignore file, and return them with the context.

    ``path``, ``dockerfile`` and ``ignorefile`` are as in :class:`buildfront.BuildOptions`. Raises BuildError that says
    what is missing or can't be read.
    """
    if path == "-" and dockerfile == "-":
        raise BuildError("the context and the Dockerfile can't both come from standard input")
    place = places.main(path)
    if place.dockerfile is not None and dockerfile != "-":
        with place.dockerfile as stream:
            if dockerfile and path == "-":
                raise BuildError(
                    f"standard input is no archive, so it is the Dockerfile, and -f {dockerfile} names another one",
                    hint="leave one of them out",
                )
            text = _text(stream, "the Dockerfile on standard input" if path == "-" else place.name)
        patterns = _ignore(place.directory, "", ignorefile, local=False)
        return Source(text, place.name, _context(place.directory, patterns), local=False)
    directory = place.directory
    file, text, name = _read_dockerfile(directory, dockerfile, inside=place.fetched, local=place.local)
    looked_at = [
        *_dockerfile_paths(directory, dockerfile, inside=place.fetched),
        *_ignore_paths(directory, file, ignorefile),
    ]
    return Source(
        text,
        name,
        _context(directory, _ignore(directory, file, ignorefile, local=place.local)),
        tuple(os.path.abspath(item) for item in looked_at),
        local=place.local and dockerfile != "-",
    )


def named_directory(path: str) -> DirectoryContext:
    """Return the context of a directory: what its own ``.dockerignore`` names is left out."""
    return _context(path, _ignore(path, "", "", names=(NAMED_IGNORE,)))


NAMED_IGNORE = ".dockerignore"
"""The ignore file of a named context."""


def _context(directory: str, patterns: ignore.Ignore) -> DirectoryContext:
    return DirectoryContext(os.path.abspath(directory), patterns)


def _dockerfile_paths(directory: str, dockerfile: str, *, inside: bool) -> list[str]:
    """Return where the Dockerfile may be. With ``inside`` only the context counts, which is not the user's."""
    if not dockerfile:
        return [os.path.join(directory, name) for name in ("Dockerfile", "Containerfile", "dockerfile")]
    if inside:
        return [os.path.join(directory, os.path.normpath("/" + dockerfile).lstrip("/"))]
    return [dockerfile] if os.path.isabs(dockerfile) else [dockerfile, os.path.join(directory, dockerfile)]


def _read_dockerfile(directory: str, dockerfile: str, *, inside: bool, local: bool) -> tuple[str, str, str]:
    if dockerfile == "-":
        try:
            return "", _text(standard_input(), "the Dockerfile on standard input"), "-"
        except OSError as error:
            raise BuildError(f"standard input can't be read: {error.strerror}") from None
    for path in _dockerfile_paths(directory, dockerfile, inside=inside):
        try:
            text = _read(directory, path, given=path == dockerfile, local=local)
            return path, text, dockerfile if dockerfile else os.path.basename(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise BuildError(f"{path} can't be read: {error.strerror}") from None
    if dockerfile:
        raise BuildError(
            f"the Dockerfile {dockerfile} does not exist" + (" in the context" if inside else ""),
            hint="its path counts from the top of the context" if inside else "give its path with -f",
        )
    where = "the context" if inside else directory
    raise BuildError(
        f"there is no Dockerfile and no Containerfile in {where}",
        hint="name it with -f, or another context",
    )


def _read(directory: str, path: str, *, given: bool, local: bool) -> str:
    """Return a file's text. One that the user did not name belongs to the context: its links can't lead out of it.

    Errors name the file in a context that is not ``local`` by its path there: the directory is nothing that the user
    knows.

    Raises BuildError where it is not a regular file: a device or a FIFO may never end.
    """
    if given:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    else:
        with Root(directory) as root:
            try:
                relative = os.path.relpath(path, directory)
                shown = path if local else f"{relative} in the context"
                if (status := root.stat(relative)) is not None and not stat.S_ISREG(status.st_mode):
                    raise BuildError(f"{shown} is not a regular file")
                fd = root.open(relative, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except FileNotFoundError:
                if os.path.islink(path):
                    raise BuildError(
                        f"{path if local else relative} is a link that leads to nothing in the context",
                        hint="name the file with -f (or --ignorefile) where it is meant to be outside"
                        if local
                        else "",
                    ) from None
                raise
    with os.fdopen(fd, "rb") as stream:
        return _text(stream, path)


def _text(stream: IO[bytes], name: str) -> str:
    """Return all of the text. Raises BuildError where it is too large: a device that was named may never end."""
    data = stream.read(_LARGEST + 1) or b""
    if len(data) > _LARGEST:
        raise BuildError(
            f"{name} is larger than {_LARGEST >> 20} MiB",
            hint="is another file meant? data belongs into the context",
        )
    return data.decode("utf-8", "surrogateescape")


def _ignore_paths(
    directory: str, dockerfile: str, ignorefile: str, names: tuple[str, ...] = _IGNORES
) -> list[str]:
    if ignorefile:
        return [ignorefile]
    beside = [dockerfile + ".dockerignore"] if dockerfile else []
    return beside + [os.path.join(directory, name) for name in names]


def _ignore(
    directory: str, dockerfile: str, ignorefile: str, names: tuple[str, ...] = _IGNORES, *, local: bool = True
) -> ignore.Ignore:
    for path in _ignore_paths(directory, dockerfile, ignorefile, names):
        try:
            inside = os.path.abspath(path).startswith(os.path.abspath(directory).rstrip("/") + "/")
            return ignore.parse(_read(directory, path, given=bool(ignorefile) or not inside, local=local))
        except FileNotFoundError:
            if ignorefile:
                raise BuildError(f"the ignore file {ignorefile} does not exist") from None
        except OSError as error:
            raise BuildError(f"{path} can't be read: {error.strerror}") from None
    return ignore.Ignore(())
