"""Cache keys: the digest of everything that can change a step's result, each part kept by name.

The parts that depend on the kind of step are in :mod:`buildfront.engine.ops`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from run_step import RunRequest

VERSION = "4"
"""The version of the keys. Increase it when the same parts no longer give the same result."""

RUN_OPTIONS = (
    "user",
    "cwd",
    "network",
    "cni_config_dirs",
    "add_hosts",
    "dns",
    "dns_search",
    "dns_options",
    "no_hosts",
    "no_hostname",
    "hostname",
    "cap_add",
    "cap_drop",
    "ulimits",
    "default_ulimits",
    "volumes",
    "mounts",
    "shm_size",
    "no_new_privileges",
    "namespaces",
    "uid_map",
    "gid_map",
    "seccomp",
    "apparmor",
    "labels",
    "mask",
    "unmask",
    "devices",
    "cdi_spec_dirs",
    "hooks_dirs",
    "annotations",
    "group_add",
    "umask",
    "terminal",
    "console_size",
)
"""The fields of a RunRequest that a user gives and that can change what a command does. Limits and the way of running
are not among them, nor is what the host has behind a name: the files of a volume, a device, a network.
tests/engine/test_engine_keys.py gives the reason for each field that is left out."""

_NOT_GIVEN: Mapping[str, Any] = {"network": ("", "default"), "terminal": ("without",)}
"""The values of options that mean the same as no option, besides the empty value."""


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no blanks, as ASCII.

    Different values have different texts, except for a character beyond U+FFFF and the two surrogates that JSON writes
    for it: :func:`digest` keeps these apart.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """Return the SHA-256 of canonical JSON, in hexadecimal.

    Names that are not UTF-8 contain surrogates, and each is encoded by itself: different values have different digests.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Key(NamedTuple):
    """The key of a step, and the parts that it is a digest of."""

    digest: str
    parts: Mapping[str, Any]


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the key of a step with these parts."""
    return digest({"version": VERSION, **parts})


def make_key(parts: Mapping[str, Any]) -> Key:
    """Return the key of a step with these parts, together with them."""
    return Key(key_of(parts), parts)


def selector(
    sources: tuple[str, ...],
    parents: bool = False,
    left_out: tuple[str, ...] = (),
    required: bool = True,
) -> str:
    """Return the identity of a selection of files from a step's result."""
    parts: dict[str, Any] = {"sources": list(sources)}
    if parents:
        parts["parents"] = True
    if left_out:
        parts["left_out"] = list(left_out)
    if not required:
        parts["optional"] = True
    return digest(parts)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def options_of(request: RunRequest) -> dict[str, Any]:
    """Return the fields of a RunRequest that are part of a key, as JSON values, without those that were not given."""
    out = {}
    for name in RUN_OPTIONS:
        value = getattr(request, name)
        if value in _NOT_GIVEN.get(name, ()) or value in (None, "", ()) or value is False:
            continue
        out[name] = [_plain(item) for item in value] if isinstance(value, tuple) else _plain(value)
    return out
