"""Small directory trees: made from a description, and described."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def make(top: Path, tree: dict[str, object]) -> None:
    """A directory: text is a file, a dict a directory, ``("link", target)``, ``("hard", path)`` and
    ``(text, mode)`` are what they say."""
    top.mkdir()
    hard = []
    for name, value in tree.items():
        path = os.path.join(os.fsencode(top), os.fsencode(name))
        if isinstance(value, dict):
            make(Path(os.fsdecode(path)), value)
        elif isinstance(value, tuple) and value[0] == "link":
            os.symlink(os.fsencode(value[1]), path)
        elif isinstance(value, tuple) and value[0] == "hard":
            hard.append((os.path.join(os.fsencode(top), os.fsencode(value[1])), path))
        else:
            text, mode = value if isinstance(value, tuple) else (value, 0o644)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.chmod(path, mode)
    for old, new in hard:
        os.link(old, new)


def seen(top: str) -> object:
    out: list[object] = []
    first: dict[int, str] = {}
    for directory, directories, files in os.walk(top):
        directories.sort()
        for name in sorted((*directories, *files)):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISDIR(status.st_mode):
                content = {key: os.getxattr(path, key) for key in os.listxattr(path)} or None
            elif stat.S_ISREG(status.st_mode):
                attributes = {key: os.getxattr(path, key) for key in os.listxattr(path)}
                shown = first.setdefault(status.st_ino, os.path.relpath(path, top))
                content = (Path(path).read_bytes(), attributes, shown)
            kind = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev)
            out.append((os.path.relpath(path, top), *kind, content))
    return sorted(out, key=repr)
