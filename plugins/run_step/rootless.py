"""An ordinary user becomes root of a user namespace: what a rootless build starts with.

The calling process itself moves; nothing is started anew. It decides nothing about steps. Hot path: imports little.
"""

from __future__ import annotations

import os
import pwd

from .errors import HostError


def _ranges(path: str, uid: int) -> tuple[tuple[int, int], ...]:
    """The ranges that subuid(5) or subgid(5) gives to a user, as (first, count)."""
    names = {str(uid)}
    try:
        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass  # a user without a name, as containers have them
    out = []
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                fields = line.strip().split(":")
                if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
                    out.append((int(fields[1]), int(fields[2])))
    except OSError:
        pass  # no file, no ranges
    return tuple(out)


ALL_IDS = ((0, 0, 4294967295),)
"""The map of a process that is in no user namespace but the machine's."""


def is_machine_root() -> bool:
    """Whether our IDs are those of the machine, and not only of a user namespace."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as stream:
            words = stream.read().split()
    except OSError:
        return True  # no /proc: nothing speaks against it
    return not words or tuple(map(int, words)) == ALL_IDS[0]


def sub_ids(kind: str) -> tuple[tuple[int, int], ...]:
    """The ranges of the current user in /etc/subuid or /etc/subgid; ``kind`` is ``uid`` or ``gid``."""
    return _ranges(f"/etc/sub{kind}", os.getuid())


def maps(own: int, ranges: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, int, int], ...]:
    """The map of a rootless build: the user is 0, and the ranges follow from 1 on."""
    rows = [(0, own, 1)]
    inside = 1
    for first, count in ranges:
        rows.append((inside, first, count))
        inside += count
    return tuple(rows)


def enter_user_namespace() -> tuple[str, ...]:
    """Make the calling process root of a user namespace that has the user's ranges; returns warnings for the user.

    A mount namespace belongs to it: what is mounted for a build is seen by this process and its children alone.
    Nothing happens for who is root already. The process must have one thread: call it where the program starts.
    Without ranges, or without newuidmap and newgidmap, the user's own ID is the only one, and a warning says what
    can't work then.

    Raises HostError where the kernel allows no user namespace.
    """
    if os.geteuid() == 0:
        return ()
    from .host import which
    from .linux import mount, userns

    uid, gid = os.getuid(), os.getgid()
    uids, gids = sub_ids("uid"), sub_ids("gid")
    programs = (which("newuidmap"), which("newgidmap"))
    helpers = None
    why = ""
    if not (uids and gids):
        why = "the user has no ranges in /etc/subuid and /etc/subgid (usermod --add-subuids, --add-subgids)"
    elif not all(programs):
        why = "newuidmap and newgidmap are missing (Debian: apt-get install uidmap)"
    else:
        helpers = (str(programs[0]), str(programs[1]))
    try:
        why = userns.enter_as_user(maps(uid, uids), maps(gid, gids), helpers, flags=mount.CLONE_NEWNS) or why
    except OSError as error:
        raise HostError(
            f"this user can't enter a user namespace: {error.strerror}; run as root, or allow it "
            "(sysctl user.max_user_namespaces, and where it exists kernel.unprivileged_userns_clone)"
        ) from None
    mount.mount("", "/", flags=mount.MS_SLAVE | mount.MS_REC)
    if not why:
        return ()
    return (
        f"only one user ID is mapped: {why}; steps that change users or groups, and images with files of other "
        "owners, can't work",
    )
