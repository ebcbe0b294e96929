"""User namespaces: move the calling process into a new one with given ID maps (user_namespaces(7)).

A child that was forked before writes the maps from outside: directly if the caller has the privilege, else by
newuidmap(1) and newgidmap(1), which check /etc/subuid and /etc/subgid (subuid(5)). Only for processes with
one thread: the kernel refuses others.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Sequence

from . import mount as m
from . import process as p

Rows = Sequence[Sequence[int]]
"""Lines of a map: ID inside, ID outside, count."""


class MappingError(Exception):
    """A map that could not be written; the text is the error message of the kernel or the program."""


def _lines(rows: Rows) -> str:
    return "".join(f"{row[0]} {row[1]} {row[2]}\n" for row in rows)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())  # the kernel takes a map only in a single write
    finally:
        os.close(fd)


def _run(program: str, pid: int, rows: Rows) -> None:
    words = [str(number) for row in rows for number in row]
    done = subprocess.run(
        [program, str(pid), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise MappingError(done.stderr.strip() or f"{program} ended with status {done.returncode}")


def _write_own(pid: int, uid: int, gid: int) -> None:
    """Map only the caller's own IDs, as 0, which needs no privilege."""
    _write(f"/proc/{pid}/uid_map", f"0 {uid} 1\n")
    # Without privileges a process may map its own group only after it has disabled setgroups(2).
    _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/gid_map", f"0 {gid} 1\n")


def enter(uids: Rows, gids: Rows, *, flags: int = 0) -> None:
    """Move into a new user namespace with these maps, and become user and group 0 there if they are mapped.

    A child of ours writes the maps, for which the caller needs CAP_SETUID and CAP_SETGID. ``flags`` are
    further namespaces to make at the same time, which then belong to the new one.

    Raises OSError when the kernel allows no user namespace or refuses a map. In the second case the process
    is in a namespace without maps, and can't be used any more.
    """

    def write(pid: int) -> str:
        _write(f"/proc/{pid}/uid_map", _lines(uids))
        _write(f"/proc/{pid}/gid_map", _lines(gids))
        return ""

    _enter(write, flags)
    if any(row[0] == 0 for row in gids):
        os.setresgid(0, 0, 0)
    if any(row[0] == 0 for row in uids):
        os.setresuid(0, 0, 0)
        p.prctl(p.PR_SET_DUMPABLE, 1)  # else /proc/self would get another owner with the new ID


def enter_as_user(uids: Rows, gids: Rows, helpers: tuple[str, str] | None, *, flags: int = 0) -> str:
    """Do the same for an unprivileged user: newuidmap and newgidmap, whose paths are ``helpers``, write the maps.

    Without them, or if they refuse, only the user's own IDs are mapped. Returns the reason then, else the
    empty string. Raises OSError when even that is not allowed.
    """
    uid, gid = os.getuid(), os.getgid()

    def write(pid: int) -> str:
        why = ""
        if helpers is not None:
            try:
                _run(helpers[0], pid, uids)
                _run(helpers[1], pid, gids)
                return ""
            except (MappingError, OSError) as error:
                why = str(error)
        try:
            _write_own(pid, uid, gid)
        except OSError as error:
            raise MappingError(f"{why}; {error}" if why else str(error)) from None
        return why

    return _enter(write, flags)


def _enter(write: Callable[[int], str], flags: int) -> str:
    """Unshare while a child outside calls ``write`` with our process ID; return the result of ``write``."""
    me = os.getpid()
    ready_r, ready_w = os.pipe()
    words_r, words_w = os.pipe()
    child = os.fork()
    if child == 0:
        message, status = "", 1
        try:
            os.close(ready_w)
            os.close(words_r)
            if os.read(ready_r, 1):
                message = write(me)
            status = 0
        except BaseException as error:  # noqa: BLE001 - only the parent can report it to the user
            message = str(error) or type(error).__name__
        try:
            os.write(words_w, message.encode(errors="replace")[:4000])
        finally:
            os._exit(status)
    os.close(ready_r)
    os.close(words_w)
    try:
        m.unshare(m.CLONE_NEWUSER | flags)
        os.write(ready_w, b"1")
    finally:
        os.close(ready_w)
        words = b""
        while chunk := os.read(words_r, 4096):
            words += chunk
        os.close(words_r)
        _, status = os.waitpid(child, 0)
    text = words.decode("utf-8", "replace")
    if status:
        raise OSError(errno.EPERM, f"the ID maps of the user namespace: {text or 'refused'}")
    return text
