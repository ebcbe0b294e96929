"""The key of a step: a digest over everything that can change its result, each part kept by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..graph.model import CopyOp, Mount, RunOp, SourceOp, Step, WorkdirOp

VERSION = "2"
"""Raised when the same inputs would no longer give the same result."""

RUN_OPTIONS = (
    "network",
    "add_hosts",
    "dns",
    "dns_search",
    "dns_options",
    "no_hosts",
    "hostname",
    "cap_add",
    "cap_drop",
    "ulimits",
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
    "group_add",
    "umask",
)
"""The fields of a RunRequest that a user gives and that can change what a command does."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def key_of(components: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical({"version": VERSION, **components}).encode()).hexdigest()


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
            "args": sorted(op.args),
            "user": op.user,
            "cwd": op.cwd,
            "network": op.network,
            "options": {
                name: options[name]
                for name in (*RUN_OPTIONS, "stdin")
                if options.get(name) not in (None, "", "default", False, [])
            },
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
    return canonical({"sources": list(sources)})


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
    """The option fields of a RunRequest as JSON values."""
    return {
        name: [_plain(item) for item in value]
        if isinstance(value := getattr(request, name), tuple)
        else value
        for name in RUN_OPTIONS
    }
