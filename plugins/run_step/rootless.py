"""Make the calling process of an ordinary user root of a user namespace: the start of a rootless build.

The process itself moves; none is started for it. Nothing about steps is decided here. Hot path: imports little.
"""

from __future__ import annotations

import os

from . import defaults
from .errors import HostError
from .helper_programs import which
from .linux import mount, userns
from .linux.id_maps import ALL_IDS, maps, needs_user_namespace, sub_ids
from .linux.process import effective, errno_in_child


def enter_user_namespace() -> tuple[str, ...]:
    """Make the calling process root of a user namespace with the user's ranges; return warnings for the user.

    It gets a mount namespace too: only this process and its children see the mounts of a build. Does nothing
    for root that may mount. Root without CAP_SYS_ADMIN enters a user namespace if it can, and else stays. The
    process must have one thread: call this function at the start of the program.

    Without ranges, or without newuidmap and newgidmap, only the user's own ID is mapped, and a warning says
    what can't work then.

    Raises HostError if an unprivileged user can't have a user namespace.
    """
    if not needs_user_namespace():
        return ()
    if os.geteuid() == 0:
        choice = defaults.user_namespace(0, effective(), why_no_user_namespace())
        if choice.taken != "own":
            return ()
        why = _enter()
        return (choice.note, *_one_id(why))
    try:
        return _one_id(_enter())
    except OSError as error:
        raise HostError(f"this user can't enter a user namespace: {_words(error)}; {REMEDY}") from None


REMEDY = (
    "run as root, or allow it (sysctl user.max_user_namespaces, and where they exist "
    "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)"
)


def why_no_user_namespace() -> str:
    """Return why this process can't become root of a user namespace in which it may mount; empty if it can.

    A forked child tries it: the process must have one thread.
    """

    def attempt() -> None:
        _enter()

    number = errno_in_child(attempt)
    if not number:
        return ""
    root = os.geteuid() == 0 and "SETFCAP" not in effective()
    if root and not errno_in_child(lambda: mount.unshare(mount.CLONE_NEWUSER)):
        return "a user namespace with root in it needs CAP_SETFCAP (since Linux 5.12)"
    return f"no user namespace can be made: {os.strerror(number)}"


def _one_id(why: str) -> tuple[str, ...]:
    if not why:
        return ()
    return (
        f"only one user ID is mapped: {why}; steps that change users or groups, and images with files of other "
        "owners, can't work",
    )


def _words(error: OSError) -> str:
    """Return the text of ``error`` without the name of the call."""
    return (error.strerror or str(error)).partition(": unshare(")[0].partition(": mount(")[0]


def _enter() -> str:
    """Enter the user namespace; return why only one ID is mapped, or the empty string. Raises OSError."""
    if os.geteuid() == 0:
        why = _enter_as_root()
    else:
        uids, gids = sub_ids("uid"), sub_ids("gid")
        why, helpers = _helpers(bool(uids and gids))
        uid, gid = os.getuid(), os.getgid()
        why = userns.enter_as_user(maps(uid, uids), maps(gid, gids), helpers, flags=mount.CLONE_NEWNS) or why
    mount.mount("", "/", flags=mount.MS_SLAVE | mount.MS_REC)
    return why


def _helpers(ranges: bool) -> tuple[str, tuple[str, str] | None]:
    """Return why the maps can't be written, or the empty string; and the programs that write them."""
    programs = (which("newuidmap"), which("newgidmap"))
    if not ranges:
        why = "the user has no ranges in /etc/subuid and /etc/subgid (usermod --add-subuids, --add-subgids)"
        return why, None
    if not all(programs):
        return "newuidmap and newgidmap are missing (Debian: apt-get install uidmap)", None
    return "", (str(programs[0]), str(programs[1]))


def _enter_as_root() -> str:
    """Enter as root: all IDs keep their numbers, if the process may map them."""
    missing = {"SETUID", "SETGID"} - set(effective())
    if missing:
        userns.enter_as_user((), (), None, flags=mount.CLONE_NEWNS)
        return "root has no " + " and no ".join(f"CAP_{name}" for name in sorted(missing))
    userns.enter(_same("uid"), _same("gid"), flags=mount.CLONE_NEWNS)
    return ""


def _same(kind: str) -> tuple[tuple[int, int, int], ...]:
    """Return a map to the same numbers.

    The machine's last ID is left out, because a map of all IDs would look like the machine's own.
    """
    with open(f"/proc/self/{kind}_map", encoding="ascii") as stream:
        rows = [tuple(map(int, line.split())) for line in stream]
    return tuple((row[0], row[0], row[2] - (tuple(row) == ALL_IDS[0])) for row in rows)
