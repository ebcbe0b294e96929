"""Additional groups, umask, OOM score (row X21) and the privileges that a step can't gain."""

from __future__ import annotations

from ..errors import RequestError
from ..host import HostFacts
from ..planning import Draft
from ..request import RunRequest
from .user import group


def umask(text: str) -> int:
    """``0022`` or ``22``, octal. Raises RequestError that quotes it."""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise RequestError(f"umask {text!r}: an octal number up to 0777 is wanted")
    return int(text, 8)


def oom_score(value: int) -> int:
    """-1000 to 1000 (proc(5), oom_score_adj). Raises RequestError."""
    if not -1000 <= value <= 1000:
        raise RequestError(f"OOM score adjustment {value}: it lies between -1000 and 1000")
    return value


def additional_group(text: str) -> str:
    """A name, a number or ``keep-groups``. Raises RequestError for what can be none of them."""
    if not text or any(letter.isspace() or letter in ":," for letter in text):
        raise RequestError(f"additional group {text!r}: a name, a number or keep-groups is wanted")
    return text


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Runs after the user is known; ``keep-groups`` gives the step the builder's own groups."""
    user = draft.process["user"]
    groups = list(user.get("additionalGids", []))
    for text in map(additional_group, request.group_add):
        if text == "keep-groups":
            groups += host.groups
        else:
            groups.append(group(draft.root, text))
    extra = sorted(set(groups) - {user["gid"]})
    if extra:
        user["additionalGids"] = extra
    if request.umask:
        user["umask"] = umask(request.umask)
    if request.oom_score_adj is not None:
        draft.process["oomScoreAdj"] = oom_score(request.oom_score_adj)
