"""The default place of the store, and whether a place can be trusted. Hot path: only os and stat are imported.

A store is trusted if it, and each directory on the way to it, belongs to us or to root, and no other user may write to
any of them: one who could would decide what a build finds there, and what runs as us. Links on the way are followed
one by one, and the directories that they lie in are checked too.

* A directory with the sticky bit, such as /tmp, may be open to all: of its entries only the next name has to be ours.
* A directory that a group may write to is trusted if the group is the user's private one (it has the user's name, is
  the user's own group, and has no other members; distributions give it to users whose umask is 0002), and the directory
  has no access control list.
* In a user namespace whose root is not the machine's, files of the machine's root belong to an unknown user, and so do
  those of other users. There such an owner counts as root on the way to the store, but not of the store itself. So the
  command line checks before it enters one.
"""

from __future__ import annotations

import errno
import os
import stat

_STARTED = os.geteuid()
"""The user when the program starts: a rootless build becomes root later, but names of users are those of before."""

_LINKS = 40  # linux/namei.h, MAXSYMLINKS

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def default_root() -> str:
    """Return the path of the store that is used where none is given.

    It is ``BUILDFRONT_ROOT`` of the environment, else ``/var/lib/buildfront`` for root, else ``buildfront`` in the
    user's data directory. That does not change when the process enters a user namespace.
    """
    asked = os.environ.get("BUILDFRONT_ROOT")
    if asked:
        return asked
    if _STARTED == 0:
        return "/var/lib/buildfront"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "buildfront")


def untrusted(root: str) -> tuple[str, str] | None:
    """Return the first place on the way to ``root`` that others could change, and why; None if there is none.

    A store that is not there yet is trusted like the directory that it will lie in. Raise OSError if the way can't be
    read.
    """
    here, links = "/", 0
    todo = [name for name in reversed(os.path.abspath(root).split("/")) if name]
    status = os.lstat(here)
    while True:
        why = _owner(status, last=not todo) or _writers(here, status, last=not todo)
        if why:
            return here, why
        if not todo:
            return None
        name = todo.pop()
        if name in (".", ".."):
            here = os.path.dirname(here) if name == ".." else here
            status = os.lstat(here)
            continue
        path = os.path.join(here, name)
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None  # to be made, or refused by who makes it
        if not stat.S_ISLNK(status.st_mode):
            here = path
            continue
        why = _owner(status, last=False)
        if why:
            return path, why
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), root)
        target = os.readlink(path)
        if target.startswith("/"):
            here = "/"
        todo += [part for part in reversed(target.split("/")) if part]
        status = os.lstat(here)


def check(root: str) -> None:
    """Raise BuildError, with the remedy, if others could change the place. Nothing is changed."""
    try:
        found = untrusted(root)
    except OSError as error:
        from ..errors import BuildError

        raise BuildError(
            f"the store {root!r} can't be reached: {error.strerror}",
            hint="choose another place with --root or BUILDFRONT_ROOT",
        ) from None
    if found is None:
        return
    from ..errors import BuildError

    path, why = found
    remedy = "give it to yourself (chown)" if "belongs to" in why else f"take that away (chmod go-w {path!r})"
    raise BuildError(
        f"the store {root!r} can't be trusted: {path!r} {why}",
        hint=f"{remedy} if all in it is yours, or choose a place of your own with --root or BUILDFRONT_ROOT",
    )


def _owner(status: os.stat_result, *, last: bool) -> str:
    """Return why the owner is not trusted, or the empty string."""
    if status.st_uid in (os.geteuid(), 0) or (not last and _is_unknown(status.st_uid)):
        return ""
    return f"belongs to the user {status.st_uid}"


def _is_unknown(uid: int) -> bool:
    """Whether this ID stands for owners without an ID in our user namespace (user_namespaces(7))."""
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as stream:
            if uid != int(stream.read()):
                return False
        with open("/proc/self/uid_map", encoding="ascii") as stream:
            return stream.read().split() != ["0", "0", "4294967295"]
    except (OSError, ValueError):
        return False


def _writers(path: str, status: os.stat_result, *, last: bool) -> str:
    """Return why others can write to a place, or the empty string."""
    mode = status.st_mode
    if not stat.S_ISDIR(mode) or not mode & _OTHERS or (mode & stat.S_ISVTX and not last):
        return ""
    if mode & stat.S_IWOTH:
        return "may be written to by everybody"
    if not _is_private(status.st_gid):
        return f"may be written to by the group {status.st_gid}"
    try:
        os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return ""  # it has none: the group's bits are the group's
    return "has an access control list that lets others write to it"


def _is_private(gid: int) -> bool:
    """Whether the user is the only member of a group, as far as the machine's files say."""
    if gid != os.getegid():
        return False
    import grp
    import pwd

    try:
        user = pwd.getpwuid(_STARTED)
        group = grp.getgrgid(user.pw_gid)
    except KeyError:
        return False
    if os.geteuid() == _STARTED and user.pw_gid != gid:
        return False  # it is the group of only this process (newgrp)
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
