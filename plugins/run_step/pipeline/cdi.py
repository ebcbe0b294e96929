"""CDI devices (row X35): the edits of a step that the Container Device Interface's files define for a name.

The module reads the texts among the host's facts and decides which file has priority. It does not change the
spec: :mod:`.devices` does. It loads jsonschema, and PyYAML for files that are YAML, only when a CDI name is
asked for.

Source: Container Device Interface specification (SPEC.md), versions 0.3.0 to 1.0.0.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .. import documents
from ..errors import HostError
from ..host import HostFacts, TextFile
from ..validation import problem

NAME = re.compile(
    r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?/[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?=[A-Za-z0-9](?:[\w.:-]*[A-Za-z0-9])?",
    re.ASCII,
)
"""A device's full name: ``vendor.com/class=name`` (SPEC.md, "Kind", "CDI Devices")."""

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
"""The directories of specifications; a later directory has priority."""

_MOST = 50
"""The limit for names of devices in an error message."""

SUFFIXES = (".json", ".yaml")


_SPELLINGS = {"additionalGIDs": "additionalGids"}
"""Two spellings in SPEC.md of one field."""


class _Broken(Exception):
    """A file that is not a valid specification; the text says why."""


@dataclass(frozen=True)
class Edits:
    """The edits of one device or one file.

    The fields are the lists of SPEC.md's ``containerEdits``; ``origin`` names the edits in messages.
    """

    origin: str
    env: tuple[str, ...]
    nodes: tuple[dict[str, Any], ...]
    mounts: tuple[dict[str, Any], ...]
    hooks: tuple[dict[str, Any], ...]
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Resolved:
    """The edits for the names that were asked for.

    ``edits`` are in the order in which they apply, those of each file once. ``warnings`` are about unreadable
    files of a kind that was asked for.
    """

    edits: tuple[Edits, ...] = ()
    warnings: tuple[str, ...] = ()


def is_name(text: str) -> bool:
    """Whether a ``--device`` value is meant as a CDI name, well formed or not."""
    return not text.startswith("/") and "=" in text


def resolve(names: Iterable[str], request_dirs: tuple[str, ...], host: HostFacts) -> Resolved:
    """Return the edits of CDI devices by their full names, from ``host.cdi_specs``.

    Raises HostError for a name that no file has; the message lists the known names of the kind, the
    directories and the unreadable files. Raises it also for a name that two files of a directory have, and
    for edits that can't be made here.
    """
    specs, broken = _load_all(host.cdi_specs)
    out: list[Edits] = []
    used: set[str] = set()
    kinds: set[str] = set()
    for name in names:
        kind, _, device = name.partition("=")
        kinds.add(kind)
        found = [(path, item) for path, spec in specs for item in _devices(spec, kind, device)]
        if not found:
            raise HostError(_unknown(name, specs, broken, request_dirs or DIRECTORIES))
        # The files are in the order of the directories, and the last directory has priority.
        place = posixpath.dirname(found[-1][0])
        chosen = [(path, item) for path, item in found if posixpath.dirname(path) == place]
        if len(chosen) > 1:
            paths = " and ".join(path for path, _ in chosen)
            raise HostError(
                f"the CDI device {name!r} is in {paths}: two files of one directory must not have the same device; "
                "remove it from one of them"
            )
        path, item = chosen[0]
        if path not in used:
            used.add(path)
            whole = next(spec for where, spec in specs if where == path)
            out.append(_edits(f"the CDI specification {path}", whole.get("containerEdits") or {}))
        out.append(_edits(f"the CDI device {name!r} ({path})", item.get("containerEdits") or {}))
    told = [f"{why}; it is left out" for kind, why in broken if kind in kinds]
    return Resolved(tuple(out), tuple(told))


def _devices(spec: dict[str, Any], kind: str, device: str) -> Iterator[dict[str, Any]]:
    if spec["kind"] == kind:
        yield from (item for item in spec["devices"] if item["name"] == device)


def _unknown(
    name: str, specs: list[tuple[str, dict[str, Any]]], broken: list[tuple[str, str]], places: tuple[str, ...]
) -> str:
    kind = name.partition("=")[0]
    known = [
        f"{kind}={item['name']}" for _, spec in specs if spec["kind"] == kind for item in spec["devices"]
    ]
    hint = (
        f"known are {', '.join(list(dict.fromkeys(known))[:_MOST])}{', …' * (len(known) > _MOST)}"
        if known
        else f"no CDI specification of that kind is in {', '.join(places)}"
    )
    return "; ".join([f"the device {name!r} is not known to CDI: {hint}", *(why for _, why in broken)])


def _load_all(files: tuple[TextFile, ...]) -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[str, str]]]:
    """Return the specifications by path; and for each invalid file its kind, if it is known, and the reason."""
    specs, broken = [], []
    for file in files:
        try:
            specs.append((file.path, _load(file)))
        except _Broken as error:
            kind, why = error.args
            broken.append((kind, f"the CDI specification {file.path} can't be used: {why}"))
    return specs, broken


@lru_cache(maxsize=64)
def _load(file: TextFile) -> dict[str, Any]:
    """Return the specification of one file. Raises _Broken with its kind and the reason if it is invalid."""
    if file.error:
        raise _Broken("", file.error)
    value = _parse(file)
    kind = str(value.get("kind", "")) if isinstance(value, dict) else ""
    why = problem(value, "cdi").removeprefix(": ").removeprefix(".") or _too_new(value) or _twice(value)
    if why:
        raise _Broken(kind, why)
    spec: dict[str, Any] = value
    return spec


def _parse(file: TextFile) -> Any:
    """Return the file as JSON values.

    Values that exist only in YAML are refused. Null values are left out, as if they were not there.
    """
    try:
        if file.path.endswith(".json"):
            return _tidy(documents.parse(file.text, limit=documents.SPECIFICATION))
        return _tidy(documents.parse_yaml(file.text))
    except ValueError as error:
        form = "JSON" if file.path.endswith(".json") else "YAML that can be written as JSON"
        raise _Broken("", f"it is not {form}: {error}") from None


def _tidy(value: Any) -> Any:
    if isinstance(value, dict):
        return {_SPELLINGS.get(key, key): _tidy(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    return value


def _all_edits(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [item.get("containerEdits") or {} for item in (spec, *spec["devices"])]


def _too_new(spec: dict[str, Any]) -> str:
    """Return what the specification uses that its own version does not have yet (SPEC.md, "Released versions")."""
    edits = _all_edits(spec)
    since = (
        (
            "0.4.0",
            "the type of a mount",
            any(mount.get("type") for e in edits for mount in e.get("mounts", ())),
        ),
        ("0.5.0", "hostPath", any(node.get("hostPath") for e in edits for node in e.get("deviceNodes", ()))),
        (
            "0.5.0",
            "a device name that begins with a digit",
            any(item["name"][0].isdigit() for item in spec["devices"]),
        ),
        ("0.6.0", "annotations", any(item.get("annotations") for item in (spec, *spec["devices"]))),
        ("0.6.0", "a dot in the class of a kind", "." in spec["kind"].partition("/")[2]),
        ("0.7.0", "additionalGids", any(e.get("additionalGids") for e in edits)),
        ("0.7.0", "intelRdt", any("intelRdt" in e for e in edits)),
    )
    for version, what, uses in since:
        if uses and _number(spec["cdiVersion"]) < _number(version):
            return f"{what} needs cdiVersion {version} or later, and it says {spec['cdiVersion']}"
    return ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _twice(spec: dict[str, Any]) -> str:
    counts = Counter(item["name"] for item in spec["devices"])
    twice = next((name for name, count in counts.items() if count > 1), None)
    return f"it has the device {twice!r} twice" if twice is not None else ""


def _edits(origin: str, edits: dict[str, Any]) -> Edits:
    if "intelRdt" in edits:
        raise HostError(f"{origin} wants Intel RDT (intelRdt), which a step can't have; use another device")
    return Edits(
        origin,
        tuple(edits.get("env", ())),
        tuple(edits.get("deviceNodes", ())),
        tuple(edits.get("mounts", ())),
        tuple(edits.get("hooks", ())),
        tuple(gid for gid in edits.get("additionalGids", ()) if gid),
    )
