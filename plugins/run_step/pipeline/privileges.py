"""Additional groups, umask, OOM score (row X21) and the flag that forbids new privileges."""

from __future__ import annotations

from ..errors import HostError, RequestError
from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft
from .user import exists, group

_KEEP = "keep-groups"


def umask(text: str) -> int:
    """Parse ``0022`` or ``22``, octal. Raises RequestError, which quotes it."""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise RequestError(f"umask {text!r}: an octal number up to 0777 is wanted")
    return int(text, 8)


def oom_score(value: int) -> int:
    """Check that the value is from -1000 to 1000 (proc(5), oom_score_adj). Raises RequestError."""
    if not -1000 <= value <= 1000:
        raise RequestError(f"OOM score adjustment {value}: it lies between -1000 and 1000")
    return value


def additional_group(text: str) -> str:
    """Check that the text is a name, a number or ``keep-groups``. Raises RequestError."""
    if not text or any(letter.isspace() or letter in ":," for letter in text):
        raise RequestError(f"additional group {text!r}: a name, a number or keep-groups is wanted")
    return text


def _groups(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the user's own groups in the image and the additional ones.

    A group that the user namespace can't have is an error if the request names it, and otherwise part of one
    warning.
    """
    user = draft.process["user"]
    named = [group(draft.root, text) for text in map(additional_group, request.group_add) if text != _KEEP]
    kept = set(host.inside("gid", host.groups)) if _KEEP in request.group_add else set()
    wanted = sorted({*user.pop("additionalGids", ()), *named, *kept} - {user["gid"]})
    may_set = (bool(draft.linux.get("gidMappings")) and host.is_machine_root) or host.may_set_groups
    lost = [number for number in wanted if not (may_set and exists(draft, host, "gid", number))]
    refused = sorted(set(lost) & set(named))
    why = (
        "does not exist in the step's user namespace; map more IDs (for an ordinary user: ranges in /etc/subgid)"
        if may_set
        else "can't be set: this user namespace has one group and no right to setgroups(2); give the user ranges in "
        "/etc/subuid and /etc/subgid"
    )
    if refused:
        raise HostError(f"the additional group {refused[0]} {why}, or leave --group-add out")
    if lost:
        draft.warnings.append(f"the step runs without the group {', '.join(map(str, lost))}, which {why}")
    if (
        may_set
    ):  # with the user's own group, as containerd and BuildKit have it: programs that list groups show it
        user["additionalGids"] = sorted({user["gid"], *wanted} - set(lost))


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set groups, umask and OOM score; runs after the user is known.

    ``keep-groups`` gives the step the builder's own groups.
    """
    _groups(draft, request, host)
    user = draft.process["user"]
    if request.umask:
        user["umask"] = umask(request.umask)
    if request.oom_score_adj is not None:
        draft.process["oomScoreAdj"] = oom_score(request.oom_score_adj)
