"""Documents of images as types: bytes that a stranger made, checked once where they come in (OCI image spec 1.1).

Each ``parse`` returns a value whose fields have the types that they say, or raises BuildError that names the document,
the place in it and what is wrong. ``what`` is what the error calls the document: ``the manifest of app:1``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from . import platform as platforms
from .model import CONFIG, DOCKER_CONFIG, INDEXES, MANIFESTS, Descriptor, Layer, digest_of

LIMIT = 4 << 20
"""Bytes of the largest document that is read, as registries and podman have it."""

_PARTS = 500_000
"""Commas and brackets of a document; each may be a value, which takes much more memory than a byte."""

DEPTH = 100
"""How deep values may lie in each other; no document of the specification needs ten."""

LAYERS = 4096
"""Layers of the largest image. Docker allows 127."""

NESTED = 8
"""Indexes in each other, from the one that was asked for to the manifest."""

_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,18})?(?:[Zz]|[+-]\d\d:\d\d)")
_CONFIGS = (CONFIG, DOCKER_CONFIG, "application/octet-stream")
"""Media types of an image's config; the last is of images that old versions of Docker pushed."""


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that ``data`` is. Raises BuildError.

    No value lies deeper than :data:`DEPTH`, every number is finite, every text can be written as UTF-8.
    """
    value = json_value(data, what)
    if not isinstance(value, dict):
        raise BuildError(f"{what} is no JSON object")
    return value


def json_value(data: bytes, what: str) -> Any:
    """Return the JSON value that ``data`` is, checked as :func:`json_object` says. Raises BuildError."""
    if len(data) > LIMIT:
        raise BuildError(f"{what} is larger than {LIMIT >> 20} MiB")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > _PARTS:
        raise BuildError(f"{what} has too many values")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise BuildError(f"{what} has values more than {DEPTH} deep in each other") from None
    except ValueError:
        raise BuildError(f"{what} is no JSON") from None
    _check(value, what)
    return value


def _no_number(text: str) -> float:
    raise ValueError(text)


def _check(value: Any, what: str) -> None:
    layer = [value]
    for _ in range(DEPTH):
        below: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                try:
                    item.encode()
                except UnicodeEncodeError:
                    raise BuildError(f"{what} has half of a surrogate pair in a text") from None
            elif isinstance(item, float) and item in (float("inf"), float("-inf")):
                raise BuildError(f"{what} has a number that is too large")
        if not below:
            return
        layer = below
    raise BuildError(f"{what} has values more than {DEPTH} deep in each other")


class Fields:
    """The members of one JSON object, read by type. ``place`` is its path in the document, for errors."""

    def __init__(self, value: object, what: str, place: str = "") -> None:
        if not isinstance(value, dict):
            raise BuildError(f"{what}: {place or 'it'} is no object")
        self._value: dict[str, Any] = value
        self._what = what
        self._place = place

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def wrong(self, name: str, wanted: str) -> BuildError:
        """The error for a member that is not what is ``wanted``."""
        return BuildError(f"{self._what}: {self._at(name)} is not {wanted}")

    def text(self, name: str, default: str = "") -> str:
        """A text; ``default`` where it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def texts(self, name: str, *, lone: bool = False) -> tuple[str, ...]:
        """A list of texts, empty where it is missing or null. ``lone``: a text alone is a list of one."""
        value = self._value.get(name)
        if value is None:
            return ()
        if lone and isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of texts")
        return tuple(value)

    def pairs(self, name: str) -> dict[str, str]:
        """An object of texts, empty where it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(name, "an object of texts")
        return dict(value)

    def names(self, name: str) -> tuple[str, ...]:
        """The keys of an object whose values mean nothing, empty where it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return tuple(value)

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number from 0 to 2^63 - 1; ``default``, if there is one, where it is missing or null."""
        value = self._value.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise self.wrong(name, "a whole number of at least 0")
        return value

    def flag(self, name: str) -> bool:
        """A boolean, false where it is missing or null."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return bool(value)

    def digest(self, name: str) -> str:
        """A digest. Raises BuildError for another algorithm than sha256."""
        value = self._value.get(name)
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            raise unsupported_digest(value, f"{self._what}: {self._at(name)}")
        return value

    def media_type(self, name: str, default: str = "") -> str:
        """A media type (RFC 6838); ``default`` where it is missing or empty."""
        value = self.text(name) or default
        if value and not _MEDIA_TYPE.fullmatch(value):
            raise self.wrong(name, "a media type")
        return value

    def time(self, name: str) -> str:
        """A time (RFC 3339), empty where it is missing."""
        value = self.text(name)
        if value and not _TIME.fullmatch(value):
            raise self.wrong(name, "a time of RFC 3339")
        return value

    def object(self, name: str) -> Fields:
        """An object, empty where it is missing or null."""
        value = self._value.get(name)
        return Fields({} if value is None else value, self._what, self._at(name))

    def objects(self, name: str, most: int) -> Iterator[Fields]:
        """The objects of a list, none where it is missing or null."""
        value = self._value.get(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        if len(value) > most:
            raise BuildError(
                f"{self._what}: {self._at(name)} has {len(value)} entries, and {most} are the limit"
            )
        for number, item in enumerate(value):
            yield Fields(item, self._what, f"{self._at(name)}[{number}]")

    def has(self, name: str) -> bool:
        """Whether there is such a member, and it is not null."""
        return self._value.get(name) is not None


def unsupported_digest(value: object, what: str = "") -> BuildError:
    """The error for what is no sha256 digest."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return BuildError(
        f"{what + ': ' if what else ''}unsupported digest {shown[:200]!r}", hint="only sha256 is supported"
    )


def check_digest(value: str) -> str:
    """Return a digest as it is. Raises BuildError for what is no sha256 digest."""
    if not _DIGEST.fullmatch(value):
        raise unsupported_digest(value)
    return value


def descriptor(fields: Fields, media_type: str = "") -> Descriptor:
    """The descriptor that an object is (OCI descriptor.md); ``media_type`` is for one that has none."""
    return Descriptor(
        fields.media_type("mediaType", media_type),
        fields.digest("digest"),
        fields.number("size"),
        fields.pairs("annotations"),
    )


@dataclass(frozen=True)
class Manifest:
    """An image manifest (OCI manifest.md, docker's schema 2)."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The config and the layers, each digest once. Raises BuildError where one digest has two sizes."""
        found: dict[str, Descriptor] = {}
        for item in (self.config, *self.layers):
            if found.setdefault(item.digest, item).size != item.size:
                raise BuildError(f"the manifest gives the blob {item.digest} two sizes")
        return tuple(found.values())

    @staticmethod
    def parse(data: bytes, what: str, media_type: str = "") -> Manifest:
        """Raises BuildError for what is no image manifest. ``media_type`` is for one that does not say its own."""
        return Manifest.of(json_object(data, what), what, media_type)

    @staticmethod
    def of(value: dict[str, Any], what: str, media_type: str = "") -> Manifest:
        """The same for a JSON object that :func:`json_object` gave."""
        fields = Fields(value, what)
        if not fields.has("config") or not fields.has("layers"):
            raise BuildError(f"{what} is no image manifest")
        kind = fields.media_type("mediaType", media_type) or MANIFESTS[0]
        if kind not in MANIFESTS:
            raise BuildError(f"{what} is no image: its media type is {kind}")
        config = descriptor(fields.object("config"), CONFIG)
        if config.media_type not in _CONFIGS:
            raise BuildError(f"{what} is no image: its config's media type is {config.media_type}")
        layers = tuple(descriptor(item) for item in fields.objects("layers", LAYERS))
        return Manifest(kind, config, layers)


@dataclass(frozen=True)
class IndexEntry:
    """One line of an index. ``platform`` is empty where the line has none."""

    descriptor: Descriptor
    platform: str

    @property
    def annotations(self) -> Mapping[str, str]:
        """Of the descriptor."""
        return self.descriptor.annotations


@dataclass(frozen=True)
class Index:
    """An image index (OCI image-index.md, docker's manifest list)."""

    entries: tuple[IndexEntry, ...]

    @staticmethod
    def parse(data: bytes, what: str) -> Index:
        """Raises BuildError for what is no index."""
        return Index.of(json_object(data, what), what)

    @staticmethod
    def of(value: dict[str, Any], what: str) -> Index:
        """The same for a JSON object that :func:`json_object` gave."""
        entries = []
        for item in Fields(value, what).objects("manifests", 65536):
            described = item.object("platform")
            platform = ""
            if item.has("platform"):
                platform = _platform(described)
            entries.append(IndexEntry(descriptor(item), platform))
        return Index(tuple(entries))

    def pick(self, platform: str, what: str) -> Descriptor:
        """The manifest for a platform. Raises BuildError that names the platforms that there are."""
        found: list[str] = []
        for item in self.entries:
            if not item.platform:
                if len(self.entries) == 1:
                    return item.descriptor
                continue
            if item.platform == platform or item.platform.startswith(platform + "/"):
                return item.descriptor
            found.append(item.platform)
        shown = ", ".join(list(dict.fromkeys(found))[:20])
        raise BuildError(f"{what} has nothing for {platform}", hint=f"it has {shown or 'nothing'}")


def _platform(fields: Fields) -> str:
    parts = {name: fields.text(name) for name in ("os", "architecture", "variant")}
    try:
        return platforms.of({name: text for name, text in parts.items() if text})
    except BuildError:
        return "unknown/unknown"  # as buildx writes it for attestations; nobody asks for it


def is_index(value: Mapping[str, Any], media_type: str = "") -> bool:
    """Whether a document is an index, by its own media type, the one that it came with, or its form."""
    return value.get("mediaType") in INDEXES or media_type in INDEXES or "manifests" in value


def find_manifest(
    data: bytes, media_type: str, platform: str, what: str, read: Callable[[Descriptor], bytes]
) -> tuple[bytes, Manifest]:
    """The manifest for ``platform`` that a document is or, through indexes, leads to; and its bytes.

    ``read`` gives the bytes of a descriptor that an index names; that they are what it says is checked here. Raises
    BuildError.
    """
    for _ in range(NESTED + 1):
        value = json_object(data, what)
        if not is_index(value, media_type):
            return data, Manifest.of(value, what, media_type)
        chosen = Index.of(value, what).pick(platform, what)
        media_type = chosen.media_type
        data = read(chosen)
        if digest_of(data) != chosen.digest:
            raise BuildError(f"the blob {chosen.digest} is damaged: its digest is {digest_of(data)}")
    raise BuildError(f"{what} has more than {NESTED} indexes in each other")


@dataclass(frozen=True)
class ImageConfig:
    """An image's config (OCI config.md). ``value`` is the whole document, its known members of the known types."""

    value: Mapping[str, Any]
    platform: str
    diff_ids: tuple[str, ...]

    @staticmethod
    def parse(data: bytes, what: str) -> ImageConfig:
        """Raises BuildError for what is no image config."""
        value = json_object(data, what)
        fields = Fields(value, what)
        rootfs = fields.object("rootfs")
        diff_ids = rootfs.texts("diff_ids")
        if len(diff_ids) > LAYERS:
            raise BuildError(f"{what} has {len(diff_ids)} layers, and {LAYERS} are the limit")
        for diff_id in diff_ids:
            if not _DIGEST.fullmatch(diff_id):
                raise unsupported_digest(diff_id, f"{what}: rootfs.diff_ids")
        fields.time("created")
        for name in ("author", "os.version"):
            fields.text(name)
        fields.texts("os.features")
        for line in fields.objects("history", 65536):
            line.time("created")
            line.flag("empty_layer")
            for name in ("created_by", "author", "comment"):
                line.text(name)
        checked = {**value, "config": _runtime(fields.object("config"), value.get("config"))}
        return ImageConfig(checked, _config_platform(fields, what), diff_ids)

    @property
    def created(self) -> str:
        """RFC 3339, empty where it does not say."""
        return str(self.value.get("created") or "")

    def layers(self, manifest: Manifest, what: str) -> tuple[Layer, ...]:
        """The manifest's layers with their diff IDs. Raises BuildError where the numbers differ."""
        if len(self.diff_ids) != len(manifest.layers):
            raise BuildError(
                f"{what}: the manifest has {len(manifest.layers)} layers and the config {len(self.diff_ids)}"
            )
        return tuple(Layer(*pair) for pair in zip(manifest.layers, self.diff_ids, strict=True))


def _config_platform(fields: Fields, what: str) -> str:
    parts = {name: fields.text(name) for name in ("os", "architecture", "variant")}
    try:
        return platforms.of({name: text for name, text in parts.items() if text})
    except BuildError:
        raise BuildError(f"{what} has no platform: os and architecture are missing or wrong") from None


_TEXTS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Env", "OnBuild")
_COMMANDS = ("Entrypoint", "Cmd", "Shell")
_SETS = ("Volumes", "ExposedPorts")


def _runtime(fields: Fields, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """The ``config`` member. Docker reads a command that is a text as a list of one."""
    out = dict(value or {})
    words: list[tuple[str, Sequence[str]]] = []
    words += [(name, (fields.text(name),)) for name in _TEXTS]
    words += [(name, fields.texts(name)) for name in _LISTS]
    words += [(name, fields.names(name)) for name in _SETS]
    for name in _COMMANDS:
        found = fields.texts(name, lone=True)
        words.append((name, found))
        if out.get(name) is not None:
            out[name] = list(found)
    words += [("Labels", tuple(text for pair in fields.pairs("Labels").items() for text in pair))]
    for name, texts in words:
        if any("\0" in text for text in texts):
            raise fields.wrong(name, "free of null bytes")
    health = fields.object("Healthcheck")
    health.texts("Test")
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"):
        health.number(name, 0)
    return out
