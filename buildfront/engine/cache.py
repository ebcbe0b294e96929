"""The key of a step: a digest over everything that can change its result, each part kept by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..graph.model import CopyOp, RunOp, SourceOp, Step, WorkdirOp

VERSION = "1"
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
    step: Step, parent: str, platform: str, content: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The parts of a step's key, by name."""
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
    elif isinstance(op, CopyOp):
        parts |= {
            "content": content,
            "dest": op.dest,
            "chown": op.chown,
            "chmod": op.chmod,
            "unpack": op.unpack,
            "kept_owner": op.origin.kind == "step",
        }
    elif isinstance(op, WorkdirOp):
        parts |= {"path": op.path}
    elif isinstance(op, SourceOp):
        parts |= {"image": content}
    return parts


def selector(op: CopyOp) -> str:
    """What identifies a selection of files from a step's result."""
    return canonical({"sources": list(op.sources)})


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
