"""The answers to ``--call=outline`` and ``--call=targets``: data, text and BuildKit's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import BuildError, SourceRange
from ...text import visible
from .render_json import encoded, location, plain

_FORMATS = ("text", "json")


def _is_json(form: str) -> bool:
    if form not in _FORMATS:
        raise BuildError(f"unknown format {form!r}", hint=f"known are {', '.join(_FORMATS)}", status=2)
    return form == "json"


@dataclass(frozen=True)
class OutlineItem:
    """An argument with its value, or a secret, an agent or a cache with whether it must be there."""

    name: str
    where: SourceRange
    value: str = ""
    description: str = ""
    required: bool = False


@dataclass(frozen=True)
class BuildOutline:
    """What a target asks for.

    Attributes:
        name: The name of the stage, empty if it has none.
        description: The comment above its FROM that begins with its name, without the name.
        args: The arguments that it and the stages that it needs read: ``name``, ``value``, ``description``, ``where``.
        secrets: The secrets: ``name``, ``required``, ``where``.
        ssh: The SSH agents: ``name``, ``required``, ``where``.
        caches: The cache mounts: ``name`` and ``where``.
        text: The text of the Dockerfile.
    """

    name: str = ""
    description: str = ""
    args: tuple[OutlineItem, ...] = ()
    secrets: tuple[OutlineItem, ...] = ()
    ssh: tuple[OutlineItem, ...] = ()
    caches: tuple[OutlineItem, ...] = ()
    text: str = field(default="", repr=False)

    def render(self, form: str = "text") -> str:
        """Return the outline as docker buildx prints it: ``text`` or ``json``. Raises BuildError."""
        return json.dumps(_outline_json(self), indent=2) + "\n" if _is_json(form) else _outline_text(self)


@dataclass(frozen=True)
class BuildTarget:
    """A stage as ``--call=targets`` lists it: its name, description, base and platform as written, and its place."""

    name: str
    description: str
    base: str
    platform: str
    default: bool
    where: SourceRange


@dataclass(frozen=True)
class TargetList:
    """The stages of a Dockerfile.

    Attributes:
        targets: The stages in order, each with ``name``, ``description``, ``base``, ``platform``, ``default`` and
            ``where``.
        text: The text of the Dockerfile.
    """

    targets: tuple[BuildTarget, ...]
    text: str = field(default="", repr=False)

    def render(self, form: str = "text") -> str:
        """Return the list as docker buildx prints it: ``text`` or ``json``. Raises BuildError."""
        if _is_json(form):
            return json.dumps(_targets_json(self.targets, self.text), indent=2) + "\n"
        return _targets_text(self.targets)


def _columns(rows: Sequence[tuple[str, ...]], gap: int) -> str:
    """Return columns as Go's tabwriter aligns them: each cell but the last is padded."""
    widths = [max(map(len, column)) + gap for column in zip(*rows, strict=True)]
    out = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        out.append("".join([*cells, row[-1]]) + "\n")
    return "".join(out)


def _outline_text(found: BuildOutline) -> str:
    """Return the outline of a target as docker buildx prints it."""
    out = []
    if found.name or found.description:
        rows = [("TARGET:", visible(found.name or "(default)"))]
        if found.description:
            rows.append(("DESCRIPTION:", visible(found.description)))
        out.append(_columns(rows, 1))
    if found.args:
        args = [(visible(item.name), visible(item.value), visible(item.description)) for item in found.args]
        out.append(_columns([("BUILD ARG", "VALUE", "DESCRIPTION"), *args], 3))
    for title, items in (("SECRET", found.secrets), ("SSH", found.ssh)):
        if items:
            shown = [(visible(item.name), "true" if item.required else "") for item in items]
            out.append(_columns([(title, "REQUIRED"), *shown], 3))
    return "".join(f"{part}\n" for part in out)


def _targets_text(found: Iterable[BuildTarget]) -> str:
    """Return the list of targets as docker buildx prints it."""
    rows = [("TARGET", "DESCRIPTION")]
    for target in found:
        name = visible(target.name)
        if target.default:
            name = f"{name} (default)" if name else "(default)"
        rows.append((name, visible(target.description)))
    return _columns(rows, 1)


def _some(**values: Any) -> dict[str, Any]:
    """Return the values that are not empty, as Go's omitempty writes them."""
    return {key: plain(value) if isinstance(value, str) else value for key, value in values.items() if value}


def _outline_json(found: BuildOutline) -> dict[str, Any]:
    """Return the outline in BuildKit's JSON."""

    def needs(items: tuple[OutlineItem, ...]) -> list[dict[str, Any]]:
        return [
            {"name": plain(item.name), **_some(required=item.required), "location": location(item.where)}
            for item in items
        ]

    args = [
        {
            "name": plain(item.name),
            **_some(description=item.description, value=item.value),
            "location": location(item.where),
        }
        for item in found.args
    ]
    caches = [{"ID": plain(item.name), "location": location(item.where)} for item in found.caches]
    return _some(
        name=found.name,
        description=found.description,
        args=args,
        secrets=needs(found.secrets),
        ssh=needs(found.ssh),
        cache=caches,
        sources=[encoded(found.text)],
    )


def _targets_json(found: Iterable[BuildTarget], text: str) -> dict[str, Any]:
    """Return the list of targets in BuildKit's JSON."""
    targets = [
        {
            **_some(
                name=target.name,
                default=target.default,
                description=target.description,
                base=target.base,
                platform=target.platform,
            ),
            "location": location(target.where),
        }
        for target in found
    ]
    return {"targets": targets, "sources": [encoded(text)]}
