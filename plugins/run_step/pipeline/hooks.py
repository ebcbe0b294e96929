"""OCI hooks directories (row X36): definitions matched on annotations, command and bind mounts (oci-hooks(5))."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import HostError
from ..host import HostFacts
from ..planning import Draft
from ..request import RunRequest

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
"""The stages of the OCI runtime specification (config.md, "POSIX-platform Hooks")."""


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Runs after the mounts are known, because a definition may ask whether anything is bound."""
    if not host.hooks:
        return
    if draft.isolation == "chroot":
        raise HostError("OCI hooks need an OCI runtime: use --isolation oci, or leave out --hooks-dir")
    hooks = draft.spec.setdefault("hooks", {})
    for item in host.hooks:
        definition = _load(item.path, item.text)
        if _matches(definition.get("when") or {}, draft, request):
            given = definition["hook"]
            hook = {key: given[key] for key in ("path", "args", "env", "timeout") if key in given}
            for stage in definition["stages"]:
                hooks.setdefault(stage, []).append(hook)
    if not hooks:
        del draft.spec["hooks"]


def _load(path: str, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise HostError(f"the hook definition {path} is no JSON: {error}") from None
    if not isinstance(value, dict) or value.get("version") != "1.0.0":
        raise HostError(f"the hook definition {path} has no version 1.0.0")
    if not str((value.get("hook") or {}).get("path", "")).startswith("/"):
        raise HostError(f"the hook definition {path} names no absolute hook path")
    unknown = [stage for stage in value.get("stages") or [""] if stage not in STAGES]
    if unknown:
        known = ", ".join(STAGES)
        raise HostError(f"the hook definition {path} has the unknown stage {unknown[0]!r}; known are {known}")
    return value


def _matches(when: Mapping[str, Any], draft: Draft, request: RunRequest) -> bool:
    """All the conditions that are there must hold; none at all matches nothing."""
    conditions = []
    if "always" in when:
        conditions.append(bool(when["always"]))
    if when.get("annotations"):
        have = draft.spec.get("annotations") or {}
        conditions.append(
            all(
                any(re.search(name, key) and re.search(value, text) for key, text in have.items())
                for name, value in when["annotations"].items()
            )
        )
    if when.get("commands"):
        conditions.append(any(re.search(pattern, draft.process["args"][0]) for pattern in when["commands"]))
    if "hasBindMounts" in when:
        has = bool(request.volumes)
        conditions.append(has == bool(when["hasBindMounts"]))
    return bool(conditions) and all(conditions)
