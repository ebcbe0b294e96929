"""``index.json``: which images the store has and what they are called (OCI image layout).

It is the truth about names; other tools read it, and write it. A changed file is written beside and renamed, under a
lock. What is read is checked: every descriptor has a media type, a digest and a size, and annotations are texts.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import BuildError
from ..image.model import INDEX
from .failure import telling

REF_NAME = "org.opencontainers.image.ref.name"

LIMIT = 4 << 20
"""Bytes of an index: beyond that, Python's values for it could take more memory than a build should need."""


class ImageIndex:
    """The names of a store at ``root``. Its methods raise BuildError for an index that can't be used."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, "index.json")

    def read(self) -> list[dict[str, Any]]:
        """All descriptors, named or not."""
        with telling(self._root):
            try:
                fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
            with os.fdopen(fd, "rb") as stream:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise self._wrong("it is no file")
                data = stream.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise self._wrong(f"it is larger than {LIMIT >> 20} MiB")
        try:
            value = json.loads(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise self._wrong(f"byte {error.start} is no UTF-8") from None
        except json.JSONDecodeError as error:
            raise self._wrong(f"line {error.lineno} is no JSON ({error.msg})") from None
        except ValueError as error:
            raise self._wrong(f"it is no JSON ({error})") from None
        except RecursionError:
            raise self._wrong("its values are too deep in each other") from None
        if not isinstance(value, dict):
            raise self._wrong("it is no JSON object")
        manifests = value.get("manifests")
        if manifests is None:
            return []  # what Go writes for an empty list
        if not isinstance(manifests, list):
            raise self._wrong("manifests is no list")
        for number, item in enumerate(manifests):
            why = _unusable(item)
            if why:
                raise self._wrong(f"manifests[{number}] {why}")
        return manifests

    def _wrong(self, why: str) -> BuildError:
        return BuildError(
            f"the store {self._root!r}: index.json can't be used: {why}",
            hint="mend it, or move it away: images keep their content, and lose their names",
        )

    def find(self, name: str) -> dict[str, Any] | None:
        """The descriptor that has this name."""
        for item in self.read():
            if item.get("annotations", {}).get(REF_NAME) == name:
                return item
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(os.path.join(self._root, "index.lock"), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def change(self, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Replace the list by what ``edit`` makes of it; no other process changes it meanwhile."""
        with telling(self._root), self._locked():
            try:
                value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": edit(self.read())}
                data = json.dumps(value, indent=1).encode()
            except RecursionError:
                raise self._wrong("its values are too deep in each other") from None
            if len(data) > LIMIT:
                raise BuildError(
                    f"the store {self._root!r} has too many names: index.json would be larger than {LIMIT >> 20} MiB",
                    hint="use another store with --root or BUILDFRONT_ROOT",
                )
            temporary = self._path + ".new"
            try:
                os.unlink(temporary)  # of a program that was killed; we have the lock
            except FileNotFoundError:
                pass
            fd = os.open(
                temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
            )
            try:
                with os.fdopen(fd, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(fd)
                os.rename(temporary, self._path)
            except BaseException:
                os.unlink(temporary)
                raise

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
    out: dict[str, dict[str, Any]] = {}
    for item in items:
        nameless = REF_NAME not in item.get("annotations", {})
        if not (nameless and item["digest"] in named):
            out.setdefault(json.dumps(item, sort_keys=True), item)
    return list(out.values())


def _unusable(item: Any) -> str:
    """Why this is no descriptor (OCI image-spec, descriptor.md), or the empty string."""
    if not isinstance(item, dict):
        return "is no JSON object"
    for name in ("mediaType", "digest"):
        if not _is_text(item.get(name)):
            return f"has no {name}" if name not in item else f"has a {name} that is no text"
    algorithm, _, encoded = item["digest"].partition(":")
    if not algorithm or not encoded or not all(_is_in_digest(char) for char in item["digest"]):
        return f"has a digest that is none: {item['digest'][:100]!r}"
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        return "has no size" if "size" not in item else "has a size that is no number of bytes"
    annotations = item.get("annotations", {})
    if not isinstance(annotations, dict) or not all(
        _is_text(key) and _is_text(value) for key, value in annotations.items()
    ):
        return "has annotations that are no texts"
    return ""


def _is_text(value: Any) -> bool:
    """Whether this is a text that can be printed and written: JSON lets halves of characters through."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_in_digest(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char in ":+._-=")
