"""``RUN --mount`` flags to Mounts: variables replaced, values checked. The graph finds their origins."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from run_step import wrong_target

from ..dockerfile import mount_flags as syntax
from ..dockerfile.instructions import MountFlag
from ..errors import BuildError, nearest
from .step_graph import Mount

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")

_MAY_BE_EMPTY = ("from", "source", "target", "id", "relabel")
"""The keys of which an empty one is as none."""

_MODES = {"cache": 0o7777}
"""The bits of a mode that count, by type; for a secret and a socket only the permissions, as in BuildKit."""


def resolve(flag: MountFlag, expand: Callable[[str], str], cwd: str) -> Mount:
    """Return the mount that ``flag`` means, its origin still to be found.

    Raises BuildError that quotes the flag.
    """
    text = flag.text
    fields = {key: expand(value) for key, value in flag.fields}
    kind = syntax.checked_kind(text, expand(flag.kind), tuple(fields))
    for key in [key for key, value in fields.items() if not value and key in _MAY_BE_EMPTY]:
        del fields[key]
    empty = next((key for key, value in fields.items() if not value), None)
    if empty is not None:
        raise BuildError(f"RUN --mount={text}: {empty} is empty after its variables were replaced")
    if any("\0" in value for value in fields.values()):
        raise BuildError(f"RUN --mount={text}: a value has a null byte")
    if kind == "secret" and "env" in fields and not _VARIABLE.fullmatch(fields["env"]):
        raise BuildError(
            f"RUN --mount={text}: env={fields['env']!r} of a secret is not the name of a variable"
        )
    target = fields.get("target", "")
    if target or kind in ("bind", "cache", "tmpfs"):
        target = posixpath.normpath("/" + posixpath.join(cwd, target).lstrip("/"))
        if target == "/" and not fields.get("target"):
            raise BuildError(
                f"RUN --mount={text}: target=PATH is missing", hint="without it, the mount is on the WORKDIR"
            )
        problem = wrong_target(target)
        if problem:
            raise BuildError(f"RUN --mount={text}: {problem}")
    read_only = syntax.flag(text, "readonly", fields.get("readonly", "true" if kind == "bind" else "false"))
    if "readwrite" in fields:
        read_only = not syntax.flag(text, "readwrite", fields["readwrite"])
    sharing = fields.get("sharing", "shared").lower()
    if sharing not in syntax.SHARING:
        hint = nearest(sharing, syntax.SHARING) or f"known are {', '.join(syntax.SHARING)}"
        raise BuildError(f"RUN --mount={text}: unknown sharing {sharing!r}", hint=hint)
    mode = syntax.mode(text, fields["mode"]) & _MODES.get(kind, 0o777) if "mode" in fields else None
    uid = syntax.number(text, "uid", fields["uid"]) if "uid" in fields else None
    gid = syntax.number(text, "gid", fields["gid"]) if "gid" in fields else None
    source = posixpath.normpath("/" + fields.get("source", "/").lstrip("/"))
    if kind == "cache" and source != "/":
        mode = uid = gid = None  # they are for a new cache's top, which is not mounted then; as in BuildKit
    return Mount(
        kind=kind,
        target=target,
        source=source,
        read_only=read_only and kind in ("bind", "cache", "tmpfs"),
        id=_identity(text, kind, fields),
        sharing=sharing,
        env=fields.get("env", "") if kind == "secret" else "",
        required=syntax.flag(text, "required", fields.get("required", "false")),
        size=syntax.size(text, fields["size"]) if "size" in fields else 0,
        mode=mode,
        uid=uid,
        gid=gid,
    )


def _identity(text: str, kind: str, fields: dict[str, str]) -> str:
    """Return the id, or its default: a cache's target as written, a secret's file name, the default agent."""
    if kind in ("bind", "tmpfs"):
        return ""
    if kind == "secret" and "source" in fields:
        if "id" in fields:
            raise BuildError(
                f"RUN --mount={text}: id and source are both the id of the secret", hint="give one"
            )
        return fields["source"]
    if "id" in fields:
        return fields["id"]
    target = fields.get("target", "")
    if kind == "cache":
        return posixpath.normpath(target)
    if kind == "ssh":
        return "default"
    if kind == "secret":
        if target:
            return posixpath.basename(target)
        if fields.get("env"):
            return fields["env"]
        raise BuildError(
            f"RUN --mount={text}: id=ID is missing", hint="name the secret as --secret id=ID does"
        )
    return ""
