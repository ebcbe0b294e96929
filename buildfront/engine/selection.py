"""The files that a COPY reads: its sources, found in a directory tree.

Works on a :class:`run_step.Root`, so a source can't lead out of its context or stage.
See :mod:`buildfront.engine.selection_digest` for their digest.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from run_step import Root

from ..dockerfile.ignore import as_written, compile_pattern, has_wildcard
from ..errors import BuildError

Excludes = Callable[[str], bool]
"""Returns whether a path counts as absent."""


class Changed(BuildError):
    """A source has changed since it was selected. Selecting again helps, unless it keeps changing."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path or '/'!r} changed while it was copied",
            hint="build again when it is done, or let .dockerignore leave it out",
        )


@dataclass(frozen=True)
class Item:
    """One file, directory or link.

    ``path`` is in the source tree; ``name`` is relative to the selection's top and empty for the top itself.
    ``target`` is where a symbolic link leads. The digest and the copy are made of these values. Only a file's content
    is read later, and then the file still has to have this status (:func:`reading`).
    """

    path: str
    name: str
    status: os.stat_result
    target: str = ""


@dataclass(frozen=True)
class Selection:
    """One source that was found: a directory with its content, or a single file."""

    path: str
    directory: bool
    items: tuple[Item, ...]


def _nothing(_: str) -> bool:
    return False


def select(
    root: Root,
    sources: tuple[str, ...],
    *,
    excludes: Excludes | None = None,
    prune: bool = True,
    what: str = "context",
) -> list[Selection]:
    """Return the files that ``sources`` name, in order.

    ``excludes`` says of a relative path whether it counts as absent; with ``prune`` an excluded directory is not
    entered. A pattern that matches nothing is skipped where another source selects files. ``what`` is the name of the
    tree in messages. Raise BuildError for a source that is missing or leads out of the tree.
    """
    out: list[Selection] = []
    empty: list[BuildError] = []
    for source in sources:
        try:
            found = [_one(root, path, excludes or _nothing, prune) for path in _paths(root, source, what)]
        except RecursionError:
            raise BuildError(f"{source!r} in the {what} has too many directories in each other") from None
        present = [item for item in found if item is not None]
        if not present:
            relative = posixpath.normpath(source).lstrip("/")
            ignored = excludes is not None and root.stat(relative) is not None
            error = BuildError(
                f"{as_written(source)!r} is not in the {what}"
                + (": .dockerignore leaves it out" if ignored else ""),
                hint="paths count from the root of the build context" if what == "build context" else "",
            )
            if not has_wildcard(source):
                raise error
            empty.append(error)
        out += present
    if empty and not out:
        raise empty[0]
    return out


def _paths(root: Root, source: str, what: str) -> list[str]:
    cleaned = posixpath.normpath(source.lstrip("/") or ".")
    if cleaned == ".." or cleaned.startswith("../"):
        raise BuildError(
            f"{source!r} leads out of the {what}", hint="copy the file into it, or use --build-context"
        )
    if not has_wildcard(cleaned):
        return [cleaned]
    bases = [""]
    walked = False
    for part in cleaned.split("/"):
        if (
            walked
        ):  # as in BuildKit no link below a wildcard is followed: two links to . double the names each time
            bases = [base for base in bases if _is_directory(root, base)]
        if not has_wildcard(part):
            bases = [posixpath.join(base, part) for base in bases]
            continue
        walked = True
        pattern = compile_pattern(part, directories=False)
        bases = [
            posixpath.join(base, name)
            for base in bases
            for name in _names(root, base)
            if pattern.fullmatch(name)
        ]
    return [base for base in bases if root.lstat(base) is not None]


def _is_directory(root: Root, path: str) -> bool:
    status = root.lstat(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _names(root: Root, directory: str) -> list[str]:
    try:
        fd = root.open(directory or "/", os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def _one(root: Root, path: str, excludes: Excludes, prune: bool) -> Selection | None:
    relative = "" if path == "." else path
    if relative and excludes(relative) and prune:
        return None
    status = root.stat(relative)  # a source that is itself a link means what it leads to
    if status is None:
        return None
    real = relative if excludes is _nothing else _real(root, relative)
    if real != relative and (excludes(relative) or (real and prune and excludes(real))):
        return None
    if not stat.S_ISDIR(status.st_mode):
        return None if excludes(real) else Selection(relative, False, (Item(relative, "", status),))

    def left_out(inner: str) -> bool:
        return excludes(real + inner[len(relative) :] if real else inner[len(relative) + 1 :])

    walk = _walk(root, relative, "", excludes if real == relative else left_out, prune)
    items = [Item(relative, "", status), *walk]
    if len(items) == 1 and real and excludes(real):
        return None
    return Selection(relative, True, tuple(items))


def _real(root: Root, path: str) -> str:
    """Return the path without links, which decides whether a file is excluded: a link is not a way around it.

    Raise BuildError where it can't be read.
    """
    try:
        return root.resolve(path) if path else ""
    except OSError as error:
        raise BuildError(f"{path!r} can't be read: {error.strerror}") from None


def _walk(root: Root, path: str, name: str, excludes: Excludes, prune: bool) -> Iterator[Item]:
    # A link in the place of a directory that was here just now is not followed.
    flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if name else 0)
    try:
        fd = root.open(path or "/", flags)
    except (FileNotFoundError, NotADirectoryError):
        raise Changed(path) from None
    try:
        entries = [found for n in sorted(os.listdir(fd)) if (found := _entry(fd, n, path)) is not None]
    finally:
        os.close(fd)
    for entry, status, target in entries:
        inner, shown = posixpath.join(path, entry), posixpath.join(name, entry)
        out = excludes(inner)
        if stat.S_ISDIR(status.st_mode):
            if out and prune:
                continue
            below = list(_walk(root, inner, shown, excludes, prune))
            if not out or below:
                yield Item(inner, shown, status)
            yield from below
        elif not out:
            yield Item(inner, shown, status, target)


def _entry(fd: int, name: str, directory: str) -> tuple[str, os.stat_result, str] | None:
    """Return the name, status and link target of a directory's entry; None for one that has just been removed."""
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(status.st_mode):
        return name, status, ""
    try:
        return name, status, os.readlink(name, dir_fd=fd)
    except OSError:  # gone, or something else now
        raise Changed(posixpath.join(directory, name)) from None


@contextmanager
def reading(root: Root, item: Item) -> Iterator[int]:
    """Open a regular file for reading, as a context manager that gives its descriptor.

    Raise Changed when, from the first byte to the last, it was not the selected file with the same status. The status
    includes the change time, which no program can set. Changed replaces any other error in between.
    """
    fd = _open(root, item)
    try:
        try:
            yield fd
        except Exception:
            if not is_same(os.fstat(fd), item.status):
                raise Changed(item.path) from None
            raise
        if not is_same(os.fstat(fd), item.status):
            raise Changed(item.path)
    finally:
        os.close(fd)


def _open(root: Root, item: Item) -> int:
    flags = os.O_RDONLY | (os.O_NOFOLLOW if item.name else 0) | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = root.open(item.path, flags)
    except OSError:
        there = root.lstat(item.path) if item.name else root.stat(item.path)
        if there is None or not is_same(there, item.status):
            raise Changed(item.path) from None
        raise
    if not is_same(os.fstat(fd), item.status):
        os.close(fd)
        raise Changed(item.path)
    return fd


def is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Return whether two statuses are of one file that did not change in between."""
    return (
        one.st_ctime_ns == other.st_ctime_ns
        and one.st_mtime_ns == other.st_mtime_ns
        and one.st_size == other.st_size
        and one.st_ino == other.st_ino
        and one.st_dev == other.st_dev
        and one.st_mode == other.st_mode
    )
