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


def needs_user_namespace() -> bool:
    """Whether :func:`enter_user_namespace` has something to do: not for root that may mount."""
    if os.geteuid() != 0:
        return True
    from .linux.process import effective

    return "SYS_ADMIN" not in effective()


def enter_user_namespace() -> tuple[str, ...]:
    """Make the calling process root of a user namespace that has the user's ranges; returns warnings for the user.

    A mount namespace belongs to it: what is mounted for a build is seen by this process and its children alone.
    Nothing happens for root that may mount; root without CAP_SYS_ADMIN enters one where it can, and stays where not.
    The process must have one thread: call it where the program starts.
    Without ranges, or without newuidmap and newgidmap, the user's own ID is the only one, and a warning says what
    can't work then.

    Raises HostError where an ordinary user can't have one.
    """
    if not needs_user_namespace():
        return ()
    if os.geteuid() == 0:
        from .defaults import decide
        from .host import HostFacts
        from .linux.process import effective

        choice = decide(HostFacts(capabilities=effective(), no_userns=why_no_user_namespace())).user_namespace
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
    """What keeps this process from becoming root of a user namespace in which it may mount; empty where nothing does.

    Tried in a child: the process must have one thread.
    """
    from .linux import mount
    from .linux.process import effective, errno_in_child

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
    """``error`` without the call that it was."""
    return (error.strerror or str(error)).partition(": unshare(")[0].partition(": mount(")[0]


def _enter() -> str:
    """Move; why one ID alone is mapped, or the empty string. Raises OSError."""
    from .linux import mount, userns

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
    """Who writes the maps of an ordinary user, or why nobody can."""
    from .host import which

    programs = (which("newuidmap"), which("newgidmap"))
    if not ranges:
        why = "the user has no ranges in /etc/subuid and /etc/subgid (usermod --add-subuids, --add-subgids)"
        return why, None
    if not all(programs):
        return "newuidmap and newgidmap are missing (Debian: apt-get install uidmap)", None
    return "", (str(programs[0]), str(programs[1]))


def _enter_as_root() -> str:
    """All IDs of here keep their numbers, where the process may map them."""
    from .linux import mount, userns
    from .linux.process import effective

    missing = {"SETUID", "SETGID"} - set(effective())
    if missing:
        userns.enter_as_user((), (), None, flags=mount.CLONE_NEWNS)
        return "root has no " + " and no ".join(f"CAP_{name}" for name in sorted(missing))
    userns.enter(_same("uid"), _same("gid"), flags=mount.CLONE_NEWNS)
    return ""


def _same(kind: str) -> tuple[tuple[int, int, int], ...]:
    """A map to the same numbers. The machine's last ID is left out: a map of all would look like the machine's own."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as stream:
        rows = [tuple(map(int, line.split())) for line in stream]
    return tuple((row[0], row[0], row[2] - (tuple(row) == ALL_IDS[0])) for row in rows)
