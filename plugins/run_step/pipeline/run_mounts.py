"""Mounts of the RUN instruction itself (row X68): bind, cache, tmpfs, secret, ssh, as data.

A plan has only their names. The frontend resolves them, and passes the files when the plan is executed. The
module knows nothing of the other mounts; ``mounts`` decides which one gets a destination.
"""

from __future__ import annotations

import posixpath
import re
import stat
from typing import Any

from ..errors import HostError, RequestError
from ..host import HostFacts
from ..planning import BUNDLE, ForwardAgent, PutSecret, SetSecret, TakeSource
from ..request import AGENT_SOCKET, MOUNT_KINDS, RunMount, RunRequest, wrong_target
from ..rootfs import above
from .draft import Draft

Mount = dict[str, Any]

SECRETS = "/run/secrets"
"""The directory of the secrets whose mounts name no target, as in BuildKit."""

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def destination(item: RunMount, cwd: str, number: int = 0) -> str:
    """Return the destination in the step, absolute and clean; empty for a secret that is only a variable.

    ``number`` counts the agents' sockets. Raises RequestError for a place where nothing can be mounted.
    """
    target = item.target
    if not target:
        if item.kind == "secret":
            name = posixpath.basename(item.id)
            if not item.env and name in ("", ".", ".."):
                raise RequestError(f"the secret {item.id!r} has no name for a file; say target=PATH")
            target = "" if item.env else posixpath.join(SECRETS, name)
        elif item.kind == "ssh":
            target = f"{AGENT_SOCKET}{number}"
        else:
            raise RequestError(f"a {item.kind} mount needs a target")
        if not target:
            return ""
    path = posixpath.normpath("/" + posixpath.join(cwd, target).lstrip("/"))
    problem = wrong_target(path)
    if problem:
        raise RequestError(f"a {item.kind} mount: {problem}")
    return path


def mounts(draft: Draft, request: RunRequest, host: HostFacts) -> list[Mount]:
    """Return the mounts by their targets, and plan their actions.

    Secrets and agents come after all others, as in BuildKit. Of two mounts with one target the later one
    counts, because it would lie on top.
    """
    placed = _placed(request, draft.process["cwd"])
    socket = next((path for item, path in placed if item.kind == "ssh"), "")
    if socket and "SSH_AUTH_SOCK" not in draft.env:
        draft.env["SSH_AUTH_SOCK"] = socket
        draft.process["env"].append(f"SSH_AUTH_SOCK={socket}")
    placed.sort(key=lambda pair: (pair[0].kind in ("secret", "ssh"), pair[1]))
    out: dict[str, Mount] = {}
    for number, (item, path) in enumerate(placed):
        if path in out:
            _forget(draft, out.pop(path))
        if item.kind in ("bind", "cache"):
            out[path] = _source(draft, item, path)
        elif item.kind == "tmpfs":
            out[path] = _tmpfs(draft, item, path, any(other in out for other in above(path)))
        elif item.kind == "ssh":
            out[path] = _agent(draft, item, path, f"{number}", host)
        else:
            if item.env:
                draft.actions.append(SetSecret(item.id, item.env))
            if path:
                out[path] = _secret(draft, item, path, f"{number}", host)
    return list(out.values())


def _placed(request: RunRequest, cwd: str) -> list[tuple[RunMount, str]]:
    """Return each mount with its destination, in the order of the instruction."""
    found = []
    sockets = 0
    for item in request.run_mounts:
        _check(item)
        found.append((item, destination(item, cwd, sockets)))
        sockets += item.kind == "ssh"
    return found


def _check(item: RunMount) -> None:
    if item.kind not in MOUNT_KINDS:
        raise RequestError(f"unknown kind of mount {item.kind!r}; known are {', '.join(MOUNT_KINDS)}")
    if item.kind in ("bind", "cache") and not _NAME.fullmatch(item.source):
        raise RequestError(
            f"a {item.kind} mount's source {item.source!r} is not a name of letters, digits, _ . -"
        )
    if item.kind in ("secret", "ssh") and not item.id:
        raise RequestError(f"a {item.kind} mount needs an id")
    if item.env and not _VARIABLE.fullmatch(item.env):
        raise RequestError(f"env={item.env!r} of a secret is not the name of a variable")
    if item.size < 0 or (item.mode is not None and not 0 <= item.mode <= 0o7777):
        raise RequestError(f"the size or the mode of a {item.kind} mount is out of range")


def _forget(draft: Draft, mount: Mount) -> None:
    """Remove the actions of a mount that another one replaces."""
    name = posixpath.basename(mount["source"])
    draft.actions = [
        action
        for action in draft.actions
        if not (isinstance(action, TakeSource) and action.path == mount["destination"])
        and not (isinstance(action, PutSecret | ForwardAgent) and action.name == name)
    ]


def _source(draft: Draft, item: RunMount, path: str) -> Mount:
    draft.actions.append(TakeSource(item.source, path))
    access = "ro" if item.read_only else "rw"
    return {
        "destination": path,
        "type": "bind",
        "source": f"{BUNDLE}/sources/{item.source}",
        # The device nodes of another stage's image, or of a cache that a step wrote to, are not trusted.
        "options": ["bind", access, "nodev", "private"],
    }


def _tmpfs(draft: Draft, item: RunMount, path: str, inside: bool) -> Mount:
    """Return a tmpfs with the mode of the directory that it covers.

    ``inside`` another mount that mode is not known before the mount is made.
    """
    there = draft.root.stat(path)
    mode = 0o1777 if there is None else stat.S_IMODE(there.st_mode)
    if there is not None and not inside and not stat.S_ISDIR(there.st_mode):
        raise RequestError(
            f"the target {path!r} of a tmpfs mount is a file in the image; a directory is needed"
        )
    options = ["nosuid", "nodev", *([] if inside else [f"mode={mode:o}"])]
    options += [f"size={item.size}"] if item.size else []
    options += ["ro"] if item.read_only else []
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": [*options, "private"]}


def _owner(draft: Draft, item: RunMount, host: HostFacts, default: tuple[int, int]) -> tuple[int, int]:
    """Return the owner as the host's numbers.

    Raises HostError for an ID that the step's user namespace does not have.
    """
    wanted = (
        ("uid", default[0] if item.uid is None else item.uid),
        ("gid", default[1] if item.gid is None else item.gid),
    )
    for kind, number in wanted:
        maps = draft.linux.get(f"{kind}Mappings")
        if not (draft.is_mapped(f"{kind}Mappings", number) if maps else host.has_id(kind, number)):
            raise HostError(
                f"{kind}={number} of a {item.kind} mount does not exist in the step's user namespace; map more IDs "
                f"(for an ordinary user: ranges in /etc/sub{kind}), or leave it out"
            )
    return draft.host_id("uidMappings", wanted[0][1]), draft.host_id("gidMappings", wanted[1][1])


def _file(path: str, source: str, executable: bool = False) -> Mount:
    """Return the mount of a file in the bundle that is never written to."""
    options = ["bind", "ro", "nosuid", "nodev", "exec" if executable else "noexec", "private"]
    return {"destination": path, "type": "bind", "source": f"{BUNDLE}/{source}", "options": options}


def _secret(draft: Draft, item: RunMount, path: str, name: str, host: HostFacts) -> Mount:
    uid, gid = _owner(draft, item, host, (0, 0))
    mode = 0o400 if item.mode is None else item.mode
    draft.actions.append(PutSecret(item.id, f"secret-{name}", mode, uid, gid))
    return _file(path, f"private/secret-{name}", bool(mode & 0o111))


def _agent(draft: Draft, item: RunMount, path: str, name: str, host: HostFacts) -> Mount:
    user = draft.process["user"]
    uid, gid = _owner(draft, item, host, (user["uid"], user["gid"]))
    mode = 0o600 if item.mode is None else item.mode
    draft.actions.append(ForwardAgent(item.id, f"agent-{name}", mode, uid, gid))
    return _file(path, f"agents/agent-{name}")
