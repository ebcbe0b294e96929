"""Kernel parameters of a step's network namespace."""

from __future__ import annotations

import os
from functools import partial

from ..linux import mount as m
from ..linux.process import errno_in_child


def set_sysctls(sysctls: dict[str, str], pid: int) -> list[str]:
    """Set the network's kernel parameters in the namespace of ``pid``; return a warning for each failure (row S44).

    A forked child sets them: a process that is root only in a user namespace could enter the step's namespace
    and not come back.
    """

    def put(name: str, value: str) -> None:
        m.setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC), m.CLONE_NEWNET)
        with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as stream:
            stream.write(value)

    wrong = []
    for name, value in sysctls.items():
        if name.startswith("net.") and (number := errno_in_child(partial(put, name, value))):
            wrong.append(f"{name} can't be set: {os.strerror(number)}")
    return wrong
