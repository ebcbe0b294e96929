"""The key of a step: a digest over everything that can change its result, each part kept by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..graph.step_graph import CopyOp, Mount, RunOp, SourceOp, Step, WorkdirOp

VERSION = "3"
"""Raised when the same inputs would no longer give the same result, or are told apart in another way."""

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
tests/engine/test_engine_keys.py has the reason for each field that is left out."""

_NOT_GIVEN: Mapping[str, Any] = {"network": ("", "default"), "terminal": ("without",)}
"""The values of options that mean what no option means, where that is not the empty value alone."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks, as ASCII. No two values have the same text, but for the letters of an
    astral character and the two surrogates that JSON writes for it: those :func:`digest` keeps apart."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """SHA-256 over canonical JSON, in hexadecimal. Names that are no text have surrogates in them, and each is
    encoded by itself: values that differ have different digests."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def key_of(components: Mapping[str, Any]) -> str:
    """The key of a step with these parts."""
    return digest({"version": VERSION, **components})


def components(
    step: Step, parent: str, platform: str, content: str | Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The parts of a step's key, by name. ``content`` is the digest of what it reads, for RUN one for each mount."""
    op = step.op
    parts: dict[str, Any] = {"parent": parent, "platform": platform, "kind": op.kind}
    if isinstance(op, RunOp):
        parts |= {
            "command": list(op.command),
            "env": list(op.env),
            "args": list(op.args),
            "user": op.user,
            "cwd": op.cwd,
            "network": op.network,
            "options": {name: value for name, value in options.items() if name != "compat_volumes"},
        }
        if options.get("compat_volumes") and op.volumes:
            parts["volumes"] = sorted(op.volumes)
        if op.mounts:
            pairs = zip(op.mounts, content, strict=True)
            parts["mounts"] = [_mount(mount, digest) for mount, digest in pairs]
    elif isinstance(op, CopyOp):
        parts |= {
            "content": content,
            "dest": op.dest,
            "chown": op.chown,
            "chmod": op.chmod,
            "unpack": op.unpack,
            "kept_owner": op.origin.kind == "step",
        }
        if op.for_mount:
            parts["for_mount"] = True
    elif isinstance(op, WorkdirOp):
        parts |= {"path": op.path, "user": op.user}
    elif isinstance(op, SourceOp):
        parts |= {"image": content}
    return parts


def selector(sources: tuple[str, ...]) -> str:
    """What identifies a selection of files from a step's result."""
    return digest({"sources": list(sources)})


def _mount(mount: Mount, content: str) -> dict[str, Any]:
    """A mount in a key: how it looks to the command, and a digest of what it reads. What a secret, an agent or a cache
    holds is no part of it, and whether it was given neither."""
    left_out = {"origin", "required", "sharing"}
    parts = {name: value for name, value in dataclasses.asdict(mount).items() if name not in left_out}
    return {**parts, "content": content}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def options_of(request: Any) -> dict[str, Any]:
    """The option fields of a RunRequest that count, as JSON values; those that were not given are left out."""
    out = {}
    for name in RUN_OPTIONS:
        value = getattr(request, name)
        if value in _NOT_GIVEN.get(name, ()) or value in (None, "", ()) or value is False:
            continue
        out[name] = [_plain(item) for item in value] if isinstance(value, tuple) else _plain(value)
    return out
