"""Explanations why a step's command could not be executed, with the same text under every isolation.

An isolation reports only an errno. The reason can be found in the root filesystem: a program for another
machine, a script without its interpreter. Nothing is refused beforehand, because a machine may run foreign
programs (binfmt_misc).
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import re
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .planning import host_id
from .rootfs import Root, above

_ERRORS = {
    "no such file or directory": errno.ENOENT,
    "not found on path": errno.ENOENT,
    "executable file not found in $path": errno.ENOENT,
    "permission denied": errno.EACCES,
    "operation not permitted": errno.EACCES,
    "exec format error": errno.ENOEXEC,
    "too many levels of symbolic links": errno.ELOOP,
    "not a directory": errno.ENOTDIR,
    "is a directory": errno.EACCES,
}
_MACHINES = {
    2: "sparc",
    3: "386",
    8: "mips",
    20: "ppc",
    21: "ppc64le",
    22: "s390x",
    40: "arm",
    43: "sparc64",
    62: "amd64",
    183: "arm64",
    243: "riscv64",
    258: "loong64",
}
"""Values of ``e_machine`` in ELF headers (elf(5)), with the names of image platforms."""

_HERE = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i686": "386",
    "armv7l": "arm",
    "armv6l": "arm",
    "loongarch64": "loong64",
}
_SHELLS = ("sh", "ash", "bash", "dash", "zsh", "ksh", "busybox")
_HEAD = 4096
"""The number of bytes that are read; the kernel reads 256 of a script (linux/binfmts.h, BINPRM_BUF_SIZE)."""
_LINKS = 40


def said(text: str, name: str) -> int:
    """Return the errno with which ``name`` failed to start, by the error ``text`` of an isolation; else 0."""
    base = re.escape(posixpath.basename(name))
    named = f"['\"`]?(?:[^'\"`\\n]*/)?{base}['\"`]?"
    found = re.search(
        rf"(?:^|: )(?:exec:? {named}(?:: stat [^\n]*)?|executable file {named} not found in \$PATH|open executable)"
        r": ([^:\n]+)$",
        text,
    )
    return _ERRORS.get(found[1].strip().lower(), 0) if found else 0


_NOT_EXECUTED = (1, 126, 127, 255)


def printed(status: int, text: str, name: str) -> int:
    """Return the same for an OCI runtime that printed its error as the output of the command.

    It prints one line and ends with a ``status`` of its own. runc says ``exec NAME: reason``, crun prints a
    line of its JSON log. ``text`` is the whole output.
    """
    if status not in _NOT_EXECUTED:
        return 0
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["msg"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return 0
        text = re.sub(r"^exec container process (?:\(missing dynamic library\?\) )?", "exec ", text)
    return said(text, name) if text.startswith("exec ") else 0


class Start:
    """A filter that passes output on, and keeps it as ``text`` as long as it is one short line."""

    def __init__(self, output: Callable[[str, bytes], None]) -> None:
        self._output = output
        self._kept = b""

    def __call__(self, stream: str, data: bytes) -> None:
        """Keep the beginning of the output, and pass it on."""
        if len(self._kept) <= _SHORT:
            self._kept += data[: _SHORT + 1]
        self._output(stream, data)

    @property
    def text(self) -> str:
        """The output if it was at most one line, else the empty string."""
        line = self._kept.decode("utf-8", "replace").strip()
        return line if len(self._kept) <= _SHORT and "\n" not in line else ""


_SHORT = 8192


def explain(root: Root, spec: Mapping[str, Any], number: int) -> str:
    """Return why the command of ``spec`` can't be executed in ``root``: a sentence with the remedy.

    If no reason is found, it has the kernel's text for the errno ``number``.
    """
    return reason(root, spec, number) or _plain(spec["process"]["args"][0], number)


def reason(root: Root, spec: Mapping[str, Any], number: int) -> str:
    """Return the same, but the empty string if no reason is found."""
    try:
        return _explain(root, spec, number)
    except OSError:
        return ""


def _plain(name: str, number: int) -> str:
    return f"{name!r} can't be executed: {os.strerror(number)}"


def _explain(root: Root, spec: Mapping[str, Any], number: int) -> str:
    process = spec["process"]
    name: str = process["args"][0]
    if "/" not in name:
        path = next((item.split("=", 1)[1] for item in process["env"] if item.startswith("PATH=")), "")
        if any(_is_mounted(spec, posixpath.join(place or "/", name)) for place in path.split(":")):
            return f"{name!r} was not found on PATH ({path})"
        return f"{name!r} is not in the image, in none of the directories of PATH ({path})"
    path = posixpath.normpath(posixpath.join(process["cwd"], name))
    if _is_mounted(spec, path):
        return ""  # the program is not the image's
    real, text = _follow(root, path)
    if text:
        return _missing(process["args"], name) if text == "missing" and real == path else text
    status = root.lstat(real)
    if status is None:
        return ""
    if stat.S_ISDIR(status.st_mode):
        return f"{name!r} is a directory, not a program"
    if not status.st_mode & 0o111:
        return (
            f"{name!r} is not executable: its mode is {_mode(status)}; add the bit with RUN chmod +x, or "
            "COPY --chmod=755"
        )
    if number == errno.EACCES:
        return _closed(root, spec, name, real) or _format(root, spec, name, real)
    return _format(root, spec, name, real)


def _closed(root: Root, spec: Mapping[str, Any], name: str, path: str) -> str:
    """Return what keeps the step's user from the file at ``path``: the file's mode, or that of a directory above it."""
    user = spec["process"]["user"]
    uid = host_id(spec["linux"], "uidMappings", user["uid"])
    groups = {
        host_id(spec["linux"], "gidMappings", gid) for gid in (user["gid"], *user.get("additionalGids", ()))
    }
    for place in ("/", *above(path), path):
        status = root.stat(place)
        if status is None:
            return ""
        shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
        if status.st_mode >> shift & 1:
            continue
        if place != path and user["uid"] == 0:
            continue
        what = "it" if place == path else f"the directory {place!r} above it"
        return (
            f"{name!r} may not be executed by the user {user['uid']}:{user['gid']}: {what} belongs to "
            f"{status.st_uid}:{status.st_gid}, and its mode is {_mode(status)}"
        )
    return ""


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def _missing(args: Sequence[str], name: str) -> str:
    if posixpath.basename(name) in _SHELLS and len(args) > 1 and args[1].startswith("-"):
        return (
            f"{name} is not in the image, so it can't run a command line: use the exec form "
            '(RUN ["program", "argument"]), name another shell with SHELL, or take a base image that has one'
        )
    return f"{name!r} is not in the image"


def _is_mounted(spec: Mapping[str, Any], path: str) -> bool:
    return any((path + "/").startswith(item["destination"].rstrip("/") + "/") for item in spec["mounts"])


def _follow(root: Root, path: str) -> tuple[str, str]:
    """Return the target of the links in ``path``, and what is wrong on the way: ``missing`` if it does not exist."""
    here = path
    for _ in range(_LINKS):
        status = root.lstat(here)
        if status is None:
            if here == path:
                return here, "missing"
            return here, f"{path!r} is a link to {here!r}, which is not in the image"
        if not stat.S_ISLNK(status.st_mode):
            return here, ""
        with root.parent(here) as (fd, name):
            target = os.readlink(name, dir_fd=fd)
        here = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
    return here, f"{path!r} is a link that leads back to itself"


def _format(root: Root, spec: Mapping[str, Any], name: str, path: str, depth: int = 0) -> str:
    """Return what keeps the kernel from running the file at ``path``; the empty string if no reason is found."""
    fd = root.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as stream:
        head = stream.read(_HEAD)
        if head.startswith(b"\x7fELF"):
            return _elf(root, spec, name, stream)
    if head.startswith(b"#!"):
        return _script(root, spec, name, head, depth)
    if not head:
        return f"{name!r} is an empty file, not a program"
    if b"\0" in head:
        return f"{name!r} is not a program that this machine can run (exec format error)"
    return f"{name!r} is a script that does not begin with #! and its interpreter: add the line, or run it by a shell"


def _script(root: Root, spec: Mapping[str, Any], name: str, head: bytes, depth: int) -> str:
    line = head.split(b"\n", 1)[0][2:].strip(b" \t")
    words = line.replace(b"\t", b" ").split(b" ", 1)
    interpreter = os.fsdecode(words[0])
    if not interpreter:
        return f"{name!r} is a script whose #! line names no interpreter"
    if interpreter.endswith("\r"):
        return (
            f"the #! line of {name!r} ends with a carriage return, so its interpreter is {interpreter!r}: save the "
            "file with Unix line ends"
        )
    path = posixpath.normpath(posixpath.join(spec["process"]["cwd"], interpreter))
    if _is_mounted(spec, path):
        return ""
    real, wrong = _follow(root, path)
    if wrong == "missing":
        return f"{name!r} is a script for {interpreter!r}, which is not in the image"
    if wrong:
        return f"{name!r} is a script for {interpreter!r}: {wrong}"
    status = root.lstat(real)
    if status is not None and (not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111):
        return f"{name!r} is a script for {interpreter!r}, which is not executable"
    found = _format(root, spec, interpreter, real, depth + 1) if depth < 4 else ""
    return f"{name!r} is a script for {interpreter!r}: {found}" if found else ""


def _elf(root: Root, spec: Mapping[str, Any], name: str, stream: Any) -> str:
    """Do the same for an ELF file (elf(5): the header, then the table of program headers)."""
    stream.seek(0)
    head = stream.read(64)
    if len(head) < 52:
        return f"{name!r} is an ELF file that is cut off"
    order = ">" if head[5] == 2 else "<"
    wide = head[4] == 2
    machine = struct.unpack_from(order + "H", head, 18)[0]
    theirs = _MACHINES.get(machine, f"the machine {machine} of ELF")
    theirs = {"ppc64le": "ppc64", "mips": "mips"}.get(theirs, theirs) if order == ">" else theirs
    ours = _HERE.get(os.uname().machine, os.uname().machine)
    if theirs != ours and (theirs, ours) not in (("386", "amd64"), ("arm", "arm64")):
        return (
            f"{name!r} is a program for {theirs}, and this machine is {ours}: build for linux/{ours} (--platform), or "
            "let the machine run it by an emulator (binfmt_misc; Debian: qemu-user-static)"
        )
    if wide:
        offset, (size, count) = (
            struct.unpack_from(order + "Q", head, 32)[0],
            struct.unpack_from(order + "HH", head, 54),
        )
    else:
        offset, (size, count) = (
            struct.unpack_from(order + "I", head, 28)[0],
            struct.unpack_from(order + "HH", head, 42),
        )
    for number in range(min(count, 128)):
        stream.seek(offset + number * size)
        row = stream.read(56 if wide else 32)
        if len(row) < (56 if wide else 32):
            return f"{name!r} is an ELF file that is cut off"
        if struct.unpack_from(order + "I", row)[0] != 3:  # PT_INTERP
            continue
        if wide:
            start, length = (struct.unpack_from(order + "Q", row, place)[0] for place in (8, 32))
        else:
            start, length = (struct.unpack_from(order + "I", row, place)[0] for place in (4, 16))
        stream.seek(start)
        loader = os.fsdecode(stream.read(min(length, _HEAD)).split(b"\0", 1)[0])
        if not loader.startswith("/") or _is_mounted(spec, loader):
            return ""
        real, wrong = _follow(root, posixpath.normpath(loader))
        if wrong or root.lstat(real) is None:
            return (
                f"{name!r} needs the loader {loader!r}, which is not in the image: it was built for another C library, "
                "or has to be linked statically"
            )
    return ""
