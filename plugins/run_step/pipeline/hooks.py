"""OCI hooks directories (row X36): definitions matched on annotations, command and bind mounts (oci-hooks(5)).

Only schema 1.0.0 of that page is read, not the deprecated 0.1.0. The hooks are run by runtimes, not here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from .. import documents
from ..documents import short
from ..errors import HostError
from ..host import HostFacts, TextFile
from ..request import RunRequest
from ..validation import problem
from .draft import Draft
from .volumes import parse_mount

_POSIX_CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""Classes such as ``[:alpha:]`` in brackets (POSIX, base definitions, 7.3.1), which Python does not have."""


_NAMED, _START = re.compile(r"\[:([a-z]{1,9}):\]"), re.compile(r"\[\^?\]?")


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Add the hooks that match to the spec; runs after the mounts are known.

    The hooks of a directory are in the order of their file names, ignoring case. A file replaces one of the
    same name in an earlier directory. Raises HostError for an invalid definition, with its path, and if a
    hook is needed but can't be run.
    """
    files: dict[str, TextFile] = {}
    for file in host.hooks:
        files[posixpath.basename(file.path)] = file
    for _, file in sorted(files.items(), key=lambda item: (item[0].lower(), item[0])):
        definition = _load(file)
        if not _matches(definition["when"], draft, request, file.path):
            continue
        if draft.isolation == "chroot":
            raise HostError(
                f"the hook definition {file.path} is for this step, and hooks need an OCI runtime: use --isolation oci "
                "or rootless, or leave out --hooks-dir"
            )
        for stage in dict.fromkeys(definition["stages"]):
            draft.spec.setdefault("hooks", {}).setdefault(stage, []).append(definition["hook"])


def _load(file: TextFile) -> Mapping[str, Any]:
    where = f"the hook definition {file.path}"
    if file.error:
        raise HostError(f"{where} can't be used: {file.error}")
    try:
        value = documents.parse(file.text, limit=documents.SPECIFICATION)
    except ValueError as error:
        raise HostError(f"{where} is not JSON: {error}") from None
    if isinstance(value, dict) and value.get("version", "0.1.0") == "0.1.0":
        raise HostError(
            f"{where} is of the schema 0.1.0, which is deprecated and not read; write it as 1.0.0, see oci-hooks(5)"
        )
    if isinstance(value, dict) and isinstance(value.get("when"), dict) and "or" in value["when"]:
        raise HostError(
            f'{where} has "or" in its "when", which the schema 1.0.0 does not know: all conditions must hold; write a '
            "definition for each alternative"
        )
    why = problem(value, "oci-hook").removeprefix(": ").removeprefix(".")
    if why:
        raise HostError(f"{where} can't be used: {why}")
    definition: dict[str, Any] = value
    return definition


_PATH_MAX = 4096
"""The longest path of a program. The expressions are the host's and the command is untrusted: even a simple
``.*sh`` takes time quadratic in its length.
"""


def _matches(when: Mapping[str, Any], draft: Draft, request: RunRequest, path: str) -> bool:
    """Whether all given conditions hold. A condition ``false`` never holds, as in the tools that defined the format."""
    conditions = [when[name] is True for name in ("always",) if name in when]
    if "hasBindMounts" in when:
        conditions.append(when["hasBindMounts"] and _binds(request))
    have = draft.spec.get("annotations") or {}
    for name, value in when.get("annotations", {}).items():
        names, values = _expression(name, path), _expression(value, path)
        conditions.append(any(names.search(key) and values.search(text) for key, text in have.items()))
    if when.get("commands"):
        patterns = [_expression(pattern, path) for pattern in when["commands"]]
        conditions.append(any(pattern.search(draft.process["args"][0][:_PATH_MAX]) for pattern in patterns))
    return bool(conditions) and all(conditions)


def _binds(request: RunRequest) -> bool:
    """Whether the request binds files of the host; other bind mounts do not count."""
    return bool(request.volumes) or any(parse_mount(text).kind != "tmpfs" for text in request.mounts)


def _expression(pattern: str, path: str) -> re.Pattern[str]:
    """Compile a POSIX extended regular expression.

    The syntax is Python's with POSIX's classes, and ``$`` matches only at the very end.
    """
    parts: list[str] = []
    i, bracket = 0, False
    while i < len(pattern):
        named = _NAMED.match(pattern, i) if bracket else None
        letter = pattern[i]
        if named and named[1] in _POSIX_CLASSES:
            parts.append(_POSIX_CLASSES[named[1]])
            i = named.end()
            continue
        if letter == "\\":
            parts.append(pattern[i : i + 2])
            i += 2
            continue
        if not bracket and letter == "[":
            bracket = True
            start = _START.match(pattern, i)
            text = start[0] if start else letter  # a bracket that comes first stands for itself
            parts.append(text.replace("]", r"\]"))
            i += len(text)
            continue
        if bracket and letter == "]":
            bracket = False
        parts.append(
            r"\[" if bracket and letter == "[" else r"\Z" if not bracket and letter == "$" else letter
        )
        i += 1
    try:
        return re.compile("".join(parts))
    except (re.error, OverflowError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise HostError(
            f"the hook definition {path} has the regular expression {short(pattern)}: {why}"
        ) from None
