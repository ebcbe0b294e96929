"""The user of the step (row S15): names are resolved in the root filesystem's own passwd and group files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import HostError, RequestError
from ..host import HostFacts
from ..request import RunRequest
from ..rootfs import Root
from .draft import Draft

MAX_ID = (1 << 32) - 2


@dataclass(frozen=True)
class Identity:
    """A resolved user: numbers, supplementary groups in ascending order, home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def _rows(root: Root, path: str, fields: int) -> Iterator[list[str]]:
    """Yield the fields of each line that has enough of them.

    Raises RequestError for a file that can't be read completely: a missing line would be taken for a missing
    user.
    """
    try:
        for line in root.lines(path):
            row = line.split(":", 7)
            if len(row) >= fields and not line.startswith("#") and "\0" not in line:
                yield row
    except OSError as error:
        raise RequestError(f"{path} of the image can't be read: {error.strerror}") from None


def _number(text: str, what: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    value = _id(text)
    if value is None:
        raise RequestError(f"{what} {text!r}: the largest ID is {MAX_ID}")
    return value


def _id(text: str) -> int | None:
    """Return ``text`` as a number; None if it can't be an ID."""
    digits = text.lstrip("0") or "0"
    if not text or not (text.isascii() and text.isdigit()) or len(digits) > 10 or int(digits) > MAX_ID:
        return None
    return int(digits)


def resolve(root: Root, text: str) -> Identity:
    """Resolve ``name``, ``uid``, ``name:group``, ``uid:gid`` or nothing (root).

    An empty group after the colon is as none, and an empty user is root, as in current builders.

    Raises RequestError for an unknown name; it names the file that was read.
    """
    who, _, group_text = text.partition(":")
    who = who or "0"
    number = _number(who, "user")
    uid, gid, home, name = number or 0, 0, "/", ""
    known = False
    for row in _rows(root, "/etc/passwd", 4):
        if (number is None and row[0] == who) or (number is not None and row[2] == str(number)):
            row_uid, row_gid = _id(row[2]), _id(row[3])
            if row_uid is None or row_gid is None:
                continue
            uid, gid, name, known = row_uid, row_gid, row[0], True
            home = row[5] if len(row) > 5 and row[5] else "/"
            break
    if not known and number is None:
        raise RequestError(f"user {who!r} is not in the image's /etc/passwd; create it or use a number")
    if number == 0 and not known:
        home = "/root"
    groups = []
    if group_text:
        gid = group(root, group_text)
    elif name:
        for row in _rows(root, "/etc/group", 4):
            row_gid = _id(row[2])
            if row_gid is not None and f",{name}," in f",{row[3]},":
                groups.append(row_gid)
    return Identity(uid, gid, tuple(sorted(set(groups) - {gid})), home)


def group(root: Root, text: str) -> int:
    """Return the number of a group name or number. Raises RequestError for an unknown name."""
    number = _number(text, "group")
    if number is not None:
        return number
    for row in _rows(root, "/etc/group", 3):
        row_gid = _id(row[2])
        if row[0] == text and row_gid is not None:
            return row_gid
    raise RequestError(f"group {text!r} is not in the image's /etc/group; create it or use a number")


def exists(draft: Draft, host: HostFacts, kind: str, number: int) -> bool:
    """Whether the step's user namespace has the user (``uid``) or group (``gid``)."""
    if draft.linux.get(f"{kind}Mappings"):
        return draft.is_mapped(f"{kind}Mappings", number)
    return host.has_id(kind, number)


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set user, groups and, if it is not set otherwise, HOME."""
    who = resolve(draft.root, request.user or request.image.user)
    for kind, number in (("uid", who.uid), ("gid", who.gid)):
        if not exists(draft, host, kind, number):
            raise HostError(
                f"the step's {kind} {number} does not exist in its user namespace; map more IDs "
                f"(for an ordinary user: ranges in /etc/sub{kind}), or run as root"
            )
    draft.process["user"] = {"uid": who.uid, "gid": who.gid}
    if who.groups:
        draft.process["user"]["additionalGids"] = list(who.groups)
    draft.home = who.home
    if "HOME" not in draft.env:
        draft.env["HOME"] = who.home
        draft.process["env"].append(f"HOME={who.home}")
