"""The owner that ``--chown`` and USER name, as numbers."""

from __future__ import annotations

from run_step import Root

from ...errors import BuildError

_MAX_ID = (1 << 32) - 2
_Id = tuple[int, int]


def find_owner(root: Root | None, text: str) -> tuple[_Id | None, tuple[str, ...]]:
    """Return ``--chown=TEXT`` as uid and gid, and the names that the image does not have.

    A number with no group is its own group, a name with no group has its own. As with BuildKit, files of an unknown
    user belong to root, and an unknown group changes nothing. ``root`` None is a root filesystem in which no name can
    be looked up: an empty one. The owner of the empty text is None.

    Raise BuildError for a name that can't be looked up, and for a number that is no ID.
    """
    if not text:
        return None, ()
    who, colon, group = text.partition(":")
    unknown: list[str] = []
    found = _number(text, who or "0")
    if found is not None:
        uid = gid = found
    else:
        row = _row(root, text, "/etc/passwd", who, 4)
        uid, gid = (int(row[2]), int(row[3])) if row is not None else (0, 0)
        if row is None:
            unknown.append(f"the user {who!r} is not in the image's /etc/passwd: its files belong to root")
    if colon:
        number = _number(text, group or "0")
        if number is None:
            row = _row(root, text, "/etc/group", group, 3)
            number = int(row[2]) if row is not None else gid
            if row is None:
                unknown.append(f"the group {group!r} is not in the image's /etc/group: the group is {gid}")
        gid = number
    return (uid, gid), tuple(f"--chown={text}: {what}" for what in unknown)


def _number(text: str, part: str) -> int | None:
    if part == "root":
        return 0
    digits = part.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return None
    if part.startswith("-") or len(digits) > 20 or int(digits) > _MAX_ID:
        raise BuildError(f"--chown={text[:100]}: IDs are numbers from 0 to {_MAX_ID}")
    return int(digits)


def _row(root: Root | None, text: str, path: str, name: str, fields: int) -> list[str] | None:
    """Return the line of a user or group, if there is one with valid numbers."""
    if root is None:
        raise BuildError(
            f"--chown={text}: the name {name!r} can't be looked up, because the files go onto an empty root filesystem",
            hint="use numbers, as in --chown=1000:1000",
        )
    try:
        for line in root.lines(path):
            row = line.split(":", 7)
            if row[0] == name and len(row) >= fields and all(map(_is_id, row[2:fields])):
                return row
    except OSError as error:
        raise BuildError(f"--chown={text}: {path} of the image can't be read: {error.strerror}") from None
    return None


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID
