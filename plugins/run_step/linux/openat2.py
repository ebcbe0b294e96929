"""The call openat2(2), with a replacement if the kernel or a filter lacks it. Constants: linux/openat2.h."""

from __future__ import annotations

import ctypes
import errno
import os

from ._libc import syscall

_SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
_MAX_LINKS = 40  # linux/namei.h, MAXSYMLINKS

_missing = False


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open ``path`` as if the directory descriptor ``root`` were ``/``; links and ``..`` never leave it.

    Returns a close-on-exec descriptor. Raises OSError as open(2) does; ELOOP for magic links.
    """
    global _missing
    if "\0" in path:  # the C library would cut the path there
        raise OSError(errno.ENOENT, "a path has no null byte", path)
    if not _missing:
        how = _OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        raw = os.fsencode(path) or b"."
        for _ in range(64):
            try:
                return syscall(
                    _SYS_OPENAT2,
                    f"openat2({root}, {path!r})",
                    ctypes.c_int(root),
                    raw,
                    ctypes.byref(how),
                    ctypes.c_size_t(ctypes.sizeof(how)),
                )
            except OSError as error:
                # EAGAIN: a directory was renamed during the look-up, and the kernel asks to try again.
                if error.errno == errno.EAGAIN:
                    continue
                if error.errno not in (errno.ENOSYS, errno.EPERM):
                    raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
                if error.errno == errno.EPERM:
                    break  # a seccomp filter may answer so; the walk below finds out
                _missing = True
                break
    return walk_in_root(root, path, flags, mode)


def components(path: str) -> list[str]:
    """Return the components of a path; a trailing slash becomes ``.``, because a directory must come before it."""
    return [part for part in path.split("/") if part] + ["."] * path.endswith("/")


def walk_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Do the same without openat2: one component at a time, with every link read and resolved from ``root``."""
    parts = components(path)
    stack = [os.dup(root)]
    links = 0
    try:
        while parts:
            part = parts.pop(0)
            if part == ".":
                continue
            if part == "..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            last = not parts
            nofollow = bool(flags & os.O_NOFOLLOW)
            try:
                target = os.readlink(part, dir_fd=stack[-1])
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                target = None
            if target is not None and not (last and nofollow):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    while len(stack) > 1:
                        os.close(stack.pop())
                parts[:0] = components(target)
                continue
            if last:
                return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=stack[-1])
            step = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
            stack.append(os.open(part, step, dir_fd=stack[-1]))
        return os.open(".", flags & ~os.O_NOFOLLOW & ~os.O_CREAT | os.O_CLOEXEC, dir_fd=stack[-1])
    finally:
        for fd in stack:
            os.close(fd)
