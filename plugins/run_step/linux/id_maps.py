"""The IDs of user namespaces: their maps (user_namespaces(7)) and the ranges of a user (subuid(5), subgid(5))."""

from __future__ import annotations

import os
import pwd

from .process import effective


def _ranges(path: str, uid: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges that subuid(5) or subgid(5) gives to a user, as (first, count)."""
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
"""The map of a process in the initial user namespace."""


def is_machine_root() -> bool:
    """Whether this process is in the initial user namespace, so that its IDs are those of the machine."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as stream:
            words = stream.read().split()
    except OSError:
        return True  # no /proc: there is no sign of a user namespace
    return not words or tuple(map(int, words)) == ALL_IDS[0]


def sub_ids(kind: str) -> tuple[tuple[int, int], ...]:
    """Return the ranges of the current user in /etc/subuid or /etc/subgid; ``kind`` is ``uid`` or ``gid``."""
    return _ranges(f"/etc/sub{kind}", os.getuid())


def maps(own: int, ranges: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, int, int], ...]:
    """Return the map of a rootless build: the user is 0, and the ranges follow from 1 on."""
    rows = [(0, own, 1)]
    inside = 1
    for first, count in ranges:
        rows.append((inside, first, count))
        inside += count
    return tuple(rows)


def needs_user_namespace() -> bool:
    """Whether :func:`run_step.enter_user_namespace` would enter one: not for root that may mount."""
    if os.geteuid() != 0:
        return True
    return "SYS_ADMIN" not in effective()
