"""The digest of selected files: of everything that makes the result of a copy."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Callable, Iterator

from run_step import Root

from ..image.diff import xattrs
from .selection import Item, Selection, reading

Hasher = Callable[[int, os.stat_result], str]
"""Returns the digest of the content of an open file, which has this status."""

Known = Callable[[os.stat_result], str | None]
"""Returns the digest of the content of the file with this status, where it is known."""

_AT_ONCE = 1000
"""The number of parts that are encoded together: one at a time is slow, all at once takes memory."""


def digest(
    root: Root, selections: list[Selection], hasher: Hasher, *, owners: bool, known: Known | None = None
) -> str:
    """Return the SHA-256 of everything that makes the result of a copy.

    That is names, types, modes, link targets, contents, and which files of a source are one file with several names;
    not times.
    ``owners`` adds uid, gid and extended attributes, for a copy that keeps them. The parts are JSON, so no name or
    content can look like another part. A file whose digest is ``known`` by its status is not opened.

    Raise Changed for a file that has another status than it was selected with.
    """
    total = hashlib.sha256()
    parts: list[list[object]] = []
    for part in describe(root, selections, hasher, owners=owners, known=known):
        parts.append(part)
        if len(parts) == _AT_ONCE:
            total.update(encode(parts))
            parts.clear()
    total.update(encode(parts))
    return "sha256:" + total.hexdigest()


def describe(
    root: Root, selections: list[Selection], hasher: Hasher, *, owners: bool, known: Known | None = None
) -> Iterator[list[object]]:
    """Yield the parts that :func:`digest` counts: one for each source, followed by one for each of its items."""
    contents: dict[tuple[int, int], tuple[str, dict[str, str]]] = {}
    for selection in selections:
        yield _head(selection)
        names: dict[tuple[int, int], int] = {}
        for count, item in enumerate(selection.items, 1):
            mode = item.status.st_mode
            parts: list[object] = ["item", item.name, mode]
            if item.passage:
                parts.append("passage")
            if owners:
                parts.append([item.status.st_uid, item.status.st_gid])
            if stat.S_ISLNK(mode):
                parts.append(item.target)
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                parts.append(item.status.st_rdev)
            elif stat.S_ISDIR(mode) and owners:
                with reading(root, item) as fd:
                    parts.append(_attributes(fd))
            elif stat.S_ISREG(mode):
                identity = (item.status.st_dev, item.status.st_ino)
                if identity not in contents:
                    contents[identity] = _content(root, item, hasher, owners, known)
                content, attributes = contents[identity]
                # A file with one name, or one that two sources lead to, becomes two files: see Copier.
                first = names.setdefault(identity, count) if item.status.st_nlink > 1 else count
                parts += (content, first if first != count else 0, attributes)
            yield parts


def _content(
    root: Root, item: Item, hasher: Hasher, owners: bool, known: Known | None
) -> tuple[str, dict[str, str]]:
    content = known(item.status) if known is not None else None
    if content is not None:
        return content, {}
    with reading(root, item) as fd:
        return hasher(fd, item.status), _attributes(fd) if owners else {}


def _attributes(fd: int) -> dict[str, str]:
    return {key: value.hex() for key, value in xattrs(fd).items()}


def _head(selection: Selection) -> list[object]:
    # A file's own name counts, because it may be what it is called afterwards; a directory's does not, but for the top
    # of the tree, which is not copied as a directory of its own.
    name = "" if selection.directory else posixpath.basename(selection.path)
    return ["source", selection.directory, name, selection.path == ""]


def encode(parts: list[list[object]]) -> bytes:
    """Return the parts as JSON, each of which shows where it ends.

    Names that are not UTF-8 contain surrogates, each encoded by itself.
    """
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def hash_fd(fd: int, _: os.stat_result, check: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file's content. ``check`` is called often, and may raise to end it."""
    total = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 18))
    with os.fdopen(os.dup(fd), "rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            total.update(buffer[:count])
            check()
    return total.hexdigest()
