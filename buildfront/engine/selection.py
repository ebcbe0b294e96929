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
from typing import NamedTuple

from run_step import Root

from ..dockerfile.ignore import as_written, compile_pattern
from ..dockerfile.path_filter import Matched, PathFilter
from ..errors import BuildError
from ..graph.step_graph import CopyOp
from .missing_source import proposal

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
    ``target`` is where a symbolic link leads. ``passage``: a directory that is not selected itself, but holds what
    is. The digest and the copy are made of these values. Only a file's content is read later, and then the file still
    has to have this status (:func:`reading`).
    """

    path: str
    name: str
    status: os.stat_result
    target: str = ""
    passage: bool = False


class Wanted(NamedTuple):
    """The sources of a COPY from one tree, and what else decides which files they select.

    ``parents`` and ``left_out`` are ``--parents`` and ``--exclude``. ``required``: a pattern has to match something.
    """

    sources: tuple[str, ...]
    parents: bool = False
    left_out: tuple[str, ...] = ()
    required: bool = True


def wanted(op: CopyOp, sources: tuple[str, ...]) -> Wanted:
    """Return what an operation selects with some of its sources."""
    return Wanted(sources, op.parents, op.excludes, required=op.for_mount)


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
    want: Wanted,
    *,
    excludes: Excludes | None = None,
    prune: bool = True,
    what: str = "context",
) -> list[Selection]:
    """Return the files that the sources of ``want`` name, in order.

    ``excludes`` says of a relative path whether it counts as absent; with ``prune`` an excluded directory is not
    entered. ``what`` is the name of the tree in messages. A path that begins with ``..`` begins at the top of the tree.
    Raise BuildError for a source that is missing.
    """
    tree = _Tree(root, excludes or _nothing, prune, what)
    left_out = PathFilter(want.left_out, "--exclude pattern") if want.left_out else None
    out: list[Selection] = []
    for source in want.sources:
        place, chosen = source, None
        needed: str | None = None
        if want.parents:
            place, pattern, needed = _pivot(source)
            chosen = PathFilter((pattern,), "--parents pattern")
        choice = _Choice(chosen, left_out)
        try:
            present = [found for path in tree.paths(place) if (found := tree.one(path, choice)) is not None]
        except RecursionError:
            raise BuildError(f"{source!r} in the {what} has too many directories in each other") from None
        if needed is not None:
            missing = not any(_is_below(found, needed) for found in present)
        else:
            missing = not present and (want.required or not is_pattern(place))
        if missing:
            raise tree.absent(source, place if needed is None else needed)
        out += present
    return out


def is_pattern(text: str) -> bool:
    """Return whether a source is a pattern: whether it has a wildcard that no backslash escapes."""
    at = 0
    while at < len(text):
        if text[at] in "*?[":
            return True
        at += 2 if text[at] == "\\" else 1
    return False


def _pivot(source: str) -> tuple[str, str, str | None]:
    """Return the directory that ``COPY --parents`` starts from, the pattern in it, and the path that has to be there.

    A source with wildcards needs none: it has None.
    """
    before, pivot, after = source.partition("/./")
    top, pattern = (before, after) if pivot else ("/", source)
    pattern = _clean(pattern)
    needed = None if is_pattern(top) or is_pattern(pattern) else _clean(f"{top}/{pattern}")
    return top, pattern, needed


def _is_below(found: Selection, path: str) -> bool:
    """Return whether something was selected at a path or, as BuildKit has it, at a path that begins like it."""
    return any(not item.passage and item.name and item.path.startswith(path) for item in found.items)


def _clean(path: str) -> str:
    """Return a path in the tree, relative and without ``..``; empty for its top."""
    return posixpath.normpath("/" + path).lstrip("/")


class _Choice(NamedTuple):
    """The files below a source that are meant: those that ``chosen`` matches, without those that ``left_out`` does."""

    chosen: PathFilter | None
    left_out: PathFilter | None

    def top(self) -> _Above:
        """Return what is known above the first entries."""
        return _Above(*(None if known is None else known.top for known in self))

    def match(self, above: _Above, name: str) -> tuple[bool, bool, _Above]:
        """Return whether an entry is meant, whether something below it may be, and what that needs to know."""
        meant = deeper = True
        chosen = left_out = None
        if self.chosen is not None and above.chosen is not None:
            meant, chosen = self.chosen.match(above.chosen, name)
            deeper = meant or self.chosen.may_match_below(chosen)
        if self.left_out is not None and above.left_out is not None:
            out, left_out = self.left_out.match(above.left_out, name)
            meant = meant and not out
            deeper = deeper and (not out or self.left_out.has_exceptions)
        return meant, deeper, _Above(chosen, left_out)


class _Above(NamedTuple):
    chosen: Matched | None
    left_out: Matched | None


class _Tree(NamedTuple):
    """A tree that is selected from."""

    root: Root
    excludes: Excludes
    prune: bool
    what: str

    def absent(self, source: str, path: str) -> BuildError:
        """Return the error for a source that is missing."""
        if self.excludes is not _nothing and self.root.stat(_clean(path)) is not None:
            return BuildError(
                f"{as_written(source)!r} is not in the {self.what}: .dockerignore leaves it out",
                hint="an exception lets it in: a line ! with the path",
            )
        hint = proposal(self.root, _clean(path), self.excludes)
        if not hint and self.what == "build context":
            there = _names(self.root, "")
            hint = "paths count from the root of the build context" if there else "the context is empty"
        return BuildError(f"{as_written(source)!r} is not in the {self.what}", hint=hint)

    def paths(self, source: str) -> list[str]:
        """Return the paths that a source names. Raise BuildError where the directory of a pattern is missing."""
        cleaned = _clean(source)
        if not is_pattern(cleaned):
            return [cleaned]
        parts = cleaned.split("/")
        fixed = next(at for at, part in enumerate(parts) if is_pattern(part))
        base = "/".join(parts[:fixed])
        if fixed and self.root.stat(base) is None:
            raise self.absent(source, base)
        bases = [base]
        for at, part in enumerate(parts[fixed:]):
            if at:  # as in BuildKit no link below a wildcard is followed: two links to . double the names each time
                bases = [base for base in bases if _is_directory(self.root, base)]
            if not is_pattern(part) and "\\" not in part:
                bases = [posixpath.join(base, part) for base in bases]
                continue
            pattern = compile_pattern(part, directories=False)
            bases = [
                posixpath.join(base, name)
                for base in bases
                for name in _names(self.root, base)
                if pattern.fullmatch(name)
            ]
        return [base for base in bases if self.root.lstat(base) is not None]

    def one(self, relative: str, choice: _Choice) -> Selection | None:
        """Return what is at a path; None where nothing is. A link means what it leads to."""
        if relative and self.excludes(relative) and self.prune:
            return None
        status = self.root.stat(relative)
        if status is None:
            return None
        real = relative if self.excludes is _nothing else _real(self.root, relative)
        if real != relative and (self.excludes(relative) or (real and self.prune and self.excludes(real))):
            return None
        if not stat.S_ISDIR(status.st_mode):
            return None if self.excludes(real) else Selection(relative, False, (Item(relative, "", status),))

        def left_out(inner: str) -> bool:
            return self.excludes(real + inner[len(relative) :] if real else inner[len(relative) + 1 :])

        tree = self if real == relative else self._replace(excludes=left_out)
        items = [Item(relative, "", status), *tree.walk(relative, "", choice, choice.top())]
        if len(items) == 1 and real and self.excludes(real):
            return None
        return Selection(relative, True, tuple(items))

    def walk(self, path: str, name: str, choice: _Choice, above: _Above) -> Iterator[Item]:
        """Yield what is selected below a directory, each directory before what is in it."""
        for entry, status, target in _entries(self.root, path, name):
            meant, deeper, known = choice.match(above, entry)
            if not (meant or (deeper and stat.S_ISDIR(status.st_mode))):
                continue
            inner, shown = posixpath.join(path, entry), posixpath.join(name, entry)
            out = self.excludes(inner)
            if not stat.S_ISDIR(status.st_mode):
                if not out:
                    yield Item(inner, shown, status, target)
                continue
            if out and self.prune:
                continue
            below = list(self.walk(inner, shown, choice, known)) if deeper else []
            if below or (meant and not out):
                yield Item(inner, shown, status, passage=not meant)
            yield from below


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


def _entries(root: Root, path: str, name: str) -> list[tuple[str, os.stat_result, str]]:
    # A link in the place of a directory that was here just now is not followed.
    flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if name else 0)
    try:
        fd = root.open(path or "/", flags)
    except (FileNotFoundError, NotADirectoryError):
        raise Changed(path) from None
    try:
        return [found for n in sorted(os.listdir(fd)) if (found := _entry(fd, n, path)) is not None]
    finally:
        os.close(fd)


def _real(root: Root, path: str) -> str:
    """Return the path without links, which decides whether a file is excluded: a link is not a way around it.

    Raise BuildError where it can't be read.
    """
    try:
        return root.resolve(path) if path else ""
    except OSError as error:
        raise BuildError(f"{path!r} can't be read: {error.strerror}") from None


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
    """Open a regular file or a directory for reading, as a context manager that gives its descriptor.

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
