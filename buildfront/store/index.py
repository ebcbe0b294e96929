"""``index.json``: which images the store has and what they are called (OCI image layout).

It is the truth about names; other tools read it. A changed file is written beside and renamed, under a lock.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..image.model import INDEX

REF_NAME = "org.opencontainers.image.ref.name"


class ImageIndex:
    """The names of a store at ``root``."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, "index.json")

    def read(self) -> list[dict[str, Any]]:
        """All descriptors, named or not."""
        try:
            with open(self._path, encoding="utf-8") as stream:
                manifests: list[dict[str, Any]] = json.load(stream).get("manifests", [])
                return manifests
        except FileNotFoundError:
            return []

    def find(self, name: str) -> dict[str, Any] | None:
        """The descriptor that has this name."""
        for item in self.read():
            if item.get("annotations", {}).get(REF_NAME) == name:
                return item
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(os.path.join(self._root, "index.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def change(self, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Replace the list by what ``edit`` makes of it; no other process changes it meanwhile."""
        with self._locked():
            value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": edit(self.read())}
            temporary = self._path + ".new"
            with open(temporary, "w", encoding="utf-8") as stream:
                json.dump(value, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(temporary, self._path)

    def set(self, name: str, descriptor: dict[str, Any]) -> None:
        """Give an image a name (empty: none). Whatever had the name keeps its content and loses the name."""

        def edit(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
            out = []
            for item in items:
                annotations = dict(item.get("annotations", {}))
                if name and annotations.get(REF_NAME) == name:
                    annotations.pop(REF_NAME)
                kept = {**item, "annotations": annotations} if annotations else {**item}
                if not annotations:
                    kept.pop("annotations", None)
                out.append(kept)
            entry = {key: value for key, value in descriptor.items() if key != "annotations"}
            if name:
                entry["annotations"] = {**descriptor.get("annotations", {}), REF_NAME: name}
            out.append(entry)
            return _tidy(out)

        self.change(edit)

    def remove(self, name: str) -> None:
        """Take a name away."""
        self.change(lambda items: [i for i in items if i.get("annotations", {}).get(REF_NAME) != name])


def _tidy(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """No line twice, and no nameless line for a digest that has a name."""
    named = {item["digest"] for item in items if REF_NAME in item.get("annotations", {})}
    out: list[dict[str, Any]] = []
    for item in items:
        nameless = REF_NAME not in item.get("annotations", {})
        if item not in out and not (nameless and item["digest"] in named):
            out.append(item)
    return out
