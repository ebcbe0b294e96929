"""The destination of a COPY: where a path leads inside a root filesystem, and directories made there."""

from __future__ import annotations

import os
import posixpath
import stat

from run_step import Root

from ...errors import BuildError

_MAX_LINKS = 255


def real_path(root: Root, path: str) -> str:
    """Return a path with all links followed inside the root, also the last one, and also those that lead to nothing.

    Raise BuildError for links in a circle.
    """
    todo = _parts(path)
    real, links = "/", 0
    while todo:
        part = todo.pop()
        if part == "..":
            real = posixpath.dirname(real)
            continue
        here = posixpath.join(real, part)
        status = root.lstat(here)
        if status is None or not stat.S_ISLNK(status.st_mode):
            real = here
            continue
        links += 1
        if links > _MAX_LINKS:
            raise BuildError(f"the destination {path!r} leads through too many symbolic links")
        with root.parent(here) as (fd, name):
            target = os.readlink(name, dir_fd=fd)
        real = "/" if target.startswith("/") else real
        todo += _parts(target)
    return real


def _parts(path: str) -> list[str]:
    """Return the components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def make_directories(root: Root, path: str, mode: int, owner: tuple[int, int], shown: str) -> None:
    """Make a directory and those above it that are missing. Raise BuildError where that can't be."""
    try:
        root.make_dirs(path, mode, *owner)
    except NotADirectoryError:
        raise BuildError(f"the destination {shown!r} leads through a file of the image") from None
    except OSError as error:
        raise BuildError(f"the destination {_short(shown)} can't be made: {error.strerror}") from None


def _short(path: str) -> str:
    return repr(path) if len(path) <= 300 else f"{path[:100]!r}…"
