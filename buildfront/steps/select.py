"""Which files a COPY reads: its sources found in a directory tree, and a digest over what they are.

Works on a :class:`run_step.Root`, so a context or a stage can't name anything outside of itself.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from run_step import Root

from ..dockerfile.ignore import as_written, compile_pattern, has_wildcard
from ..errors import BuildError
from ..image.diff import at, xattrs

Excludes = Callable[[str], bool]
Hasher = Callable[[int, os.stat_result], str]


@dataclass(frozen=True)
class Item:
    """One file, directory or link. ``path`` is in the source tree; ``name`` is relative to the selection's top
    and empty for the top itself."""

    path: str
    name: str
    status: os.stat_result


@dataclass(frozen=True)
class Selection:
    """One source that was found: a directory, whose content is meant, or a single file."""

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
    """The files that ``sources`` name, in order.

    ``excludes`` tells paths (relative, no leading slash) that count as absent; with ``prune`` an excluded
    directory is not entered. A pattern that matches nothing is passed over where another source gives files.
    Raises BuildError for a source that is missing or leads out of the tree.
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
    """The name by which it is left out or not: a link to a file is no other way to it. Raises BuildError."""
    try:
        return root.resolve(path) if path else ""
    except OSError as error:
        raise BuildError(f"{path!r} can't be read: {error.strerror}") from None


def _walk(root: Root, path: str, name: str, excludes: Excludes, prune: bool) -> Iterator[Item]:
    fd = root.open(path or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries = [(n, os.stat(n, dir_fd=fd, follow_symlinks=False)) for n in sorted(os.listdir(fd))]
    finally:
        os.close(fd)
    for entry, status in entries:
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
            yield Item(inner, shown, status)


def digest(root: Root, selections: list[Selection], hasher: Hasher, *, owners: bool) -> str:
    """SHA-256 over names, types, modes, link targets and contents (not times); ``owners`` adds uid, gid and
    extended attributes, which are copied then as well."""
    total = hashlib.sha256()
    for selection in selections:
        # A file's own name counts, because it may be what it is called afterwards; a directory's does not.
        top = "" if selection.directory else posixpath.basename(selection.path)
        total.update(f"[{int(selection.directory)}{top}]".encode("utf-8", "surrogateescape"))
        for item in selection.items:
            mode = item.status.st_mode
            parts = [item.name, f"{mode:o}"]
            if owners:
                parts.append(f"{item.status.st_uid}:{item.status.st_gid}")
            if owners and stat.S_ISREG(mode):
                with root.parent(item.path) as (fd, name):
                    parts += [f"{key}={value.hex()}" for key, value in xattrs(at(fd, name)).items()]
            if stat.S_ISREG(mode):
                flags = os.O_RDONLY | (os.O_NOFOLLOW if item.name else 0) | os.O_NONBLOCK
                fd = root.open(item.path, flags)
                try:
                    parts.append(hasher(fd, item.status))
                finally:
                    os.close(fd)
            elif stat.S_ISLNK(mode):
                with root.parent(item.path) as (fd, name):
                    parts.append(os.readlink(name, dir_fd=fd))
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                parts.append(str(item.status.st_rdev))
            # A name may hold a line break, and nothing a null byte: the last one ends the item.
            total.update("\0".join((*parts, "", "")).encode("utf-8", "surrogateescape"))
    return "sha256:" + total.hexdigest()


def hash_fd(fd: int, status: os.stat_result) -> str:
    """The SHA-256 of a file's content."""
    with os.fdopen(os.dup(fd), "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
