"""``index.json`` of an image layout: which images it has and what they are called (OCI image-layout.md).

Other programs write it too. An entry is kept with all of its members when the file is written again, and only what is
needed of it is checked: one entry of an unusual kind does not make the others useless.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from .descriptor import Descriptor
from .documents import Fields, json_object
from .media_types import INDEX

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation that holds the name of an image, in other programs' layouts often only its tag."""

IMAGE_NAME = "io.containerd.image.name"
"""The annotation that holds the full name of an image in archives for containerd and docker."""

LIMIT = 4 << 20
"""Bytes of the largest file. Beyond that, Python's values for it could take more memory than a build should need."""

_MOST = 1 << 16
"""Entries of a foreign index."""


@dataclass(frozen=True)
class NamedEntry:
    """An entry of the index. ``digest`` may be of any algorithm; ``value`` is the whole JSON object."""

    digest: str
    annotations: Mapping[str, str]
    value: Mapping[str, Any]

    @staticmethod
    def parse(value: object, what: str) -> NamedEntry:
        """Return the entry that a JSON value is.

        Raise BuildError, which begins with ``what``, unless it has a media type, a digest and a size, and its
        annotations are texts.
        """
        if not isinstance(value, dict):
            raise BuildError(f"{what} is not a JSON object")
        for name in ("mediaType", "digest"):
            if not _is_text(value.get(name)):
                raise BuildError(
                    f"{what} has no {name}"
                    if name not in value
                    else f"{what} has a {name} that is not a text"
                )
        digest: str = value["digest"]
        algorithm, _, encoded = digest.partition(":")
        if not algorithm or not encoded or not all(map(_is_in_digest, digest)):
            raise BuildError(f"{what} has a malformed digest: {digest[:100]!r}")
        size = value.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise BuildError(
                f"{what} has no size"
                if "size" not in value
                else f"{what} has a size that is not a number of bytes"
            )
        annotations = value.get("annotations", {})
        if not isinstance(annotations, dict) or not all(
            _is_text(key) and _is_text(text) for key, text in annotations.items()
        ):
            raise BuildError(f"{what} has annotations that are not texts")
        return NamedEntry(digest, annotations, value)

    @staticmethod
    def of(descriptor: Descriptor, annotations: Mapping[str, str] | None = None) -> NamedEntry:
        """Return the entry for a descriptor, with other annotations if they are given."""
        entry = NamedEntry(descriptor.digest, descriptor.annotations, descriptor.to_json())
        return entry if annotations is None else entry.annotated(annotations)

    @property
    def name(self) -> str:
        """The name of the image, empty if it has none."""
        return self.annotations.get(REF_NAME, "")

    @property
    def shown_name(self) -> str:
        """The fullest name that other programs gave the image, its digest if it has none."""
        return self.annotations.get(IMAGE_NAME) or self.name or self.digest

    def annotated(self, annotations: Mapping[str, str]) -> NamedEntry:
        """Return the same entry with other annotations."""
        value = {key: item for key, item in self.value.items() if key != "annotations" or annotations}
        if annotations:
            value["annotations"] = dict(annotations)
        return NamedEntry(self.digest, dict(annotations), value)

    def named(self, name: str) -> NamedEntry:
        """Return the same entry with this name, without annotations if it is empty."""
        return self.annotated({**self.annotations, REF_NAME: name} if name else {})

    def unnamed(self) -> NamedEntry:
        """Return the same entry without its name, other annotations kept."""
        return self.annotated({key: text for key, text in self.annotations.items() if key != REF_NAME})


def parse_index(data: bytes, what: str) -> list[NamedEntry]:
    """Return the entries of an ``index.json``. Raise BuildError, which begins with ``what``, if it is malformed."""
    if len(data) > LIMIT:
        raise BuildError(f"{what}: it is larger than {LIMIT >> 20} MiB")
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BuildError(f"{what}: byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BuildError(f"{what}: line {error.lineno} is not JSON ({error.msg})") from None
    except ValueError as error:
        raise BuildError(f"{what}: it is not JSON ({error})") from None
    except RecursionError:
        raise too_deep(what) from None
    if not isinstance(value, dict):
        raise BuildError(f"{what}: it is not a JSON object")
    manifests = value.get("manifests")
    if manifests is None:
        return []  # Go writes it for an empty list
    if not isinstance(manifests, list):
        raise BuildError(f"{what}: manifests is not a list")
    return [NamedEntry.parse(item, f"{what}: manifests[{number}]") for number, item in enumerate(manifests)]


def parse_foreign_index(data: bytes, what: str) -> list[NamedEntry]:
    """Return the entries of an ``index.json`` that another program may have written, to be kept as they are.

    An entry needs neither a media type nor a digest nor a size. Raise BuildError, which begins with ``what``, if the
    file is not JSON, is too large or too deep, or has a digest or annotations that are not texts.
    """
    value = json_object(data, what)
    manifests = list(Fields(value, what).objects("manifests", _MOST))
    return [
        NamedEntry(item.text("digest"), item.pairs("annotations"), entry)
        for entry, item in zip(value.get("manifests") or (), manifests, strict=True)
    ]


def dump_index(entries: Iterable[NamedEntry], what: str, *, indent: int | None = None) -> bytes:
    """Return the bytes of an ``index.json``. Raise BuildError if a value is nested too deeply to be written."""
    value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [dict(entry.value) for entry in entries]}
    try:
        return json.dumps(value, indent=indent).encode()
    except RecursionError:
        raise too_deep(what) from None


def too_deep(what: str) -> BuildError:
    """Return the error for an index whose values are nested too deeply."""
    return BuildError(f"{what}: its values are too deep in each other")


def _is_text(value: object) -> bool:
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
