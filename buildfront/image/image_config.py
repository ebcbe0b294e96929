"""The config of an image (OCI config.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from . import platform as platforms
from .descriptor import Layer
from .digest import Digest
from .documents import Fields, json_object
from .manifest import LAYERS, Manifest


@dataclass(frozen=True)
class ImageConfig:
    """An image config. ``value`` is the whole document; its members that are known have the right types."""

    value: Mapping[str, Any]
    platform: str
    diff_ids: tuple[Digest, ...]

    @staticmethod
    def parse(data: bytes, what: str) -> ImageConfig:
        """Return the image config in ``data``. Raise BuildError if it is anything else."""
        value = json_object(data, what)
        fields = Fields(value, what)
        rootfs = fields.object("rootfs")
        texts = rootfs.texts("diff_ids")
        if len(texts) > LAYERS:
            raise BuildError(f"{what} has {len(texts)} layers, and {LAYERS} are the limit")
        diff_ids = tuple(Digest.parse(text, f"{what}: rootfs.diff_ids") for text in texts)
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
        """The time as in RFC 3339, empty if there is none."""
        return str(self.value.get("created") or "")

    def layers(self, manifest: Manifest, what: str) -> tuple[Layer, ...]:
        """Return the manifest's layers with their diff IDs. Raise BuildError if the numbers differ."""
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
    """Return the ``config`` member, checked. A command that is a text becomes a list of one, as in docker."""
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
