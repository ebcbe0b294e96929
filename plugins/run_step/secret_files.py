"""The secrets of a step, in a filesystem in memory that no other process sees: they must never be on a disk.

Runs in the supervised child (see :mod:`run_step.supervisor`), which moves into a mount namespace of its own for that:
whatever ends it, the kernel removes the filesystem. The builder's side is :mod:`run_step.secret_packing`. Nothing is
decided here. Hot path: imports little.
"""

from __future__ import annotations

import os

from .errors import HostError
from .linux import mount as m
from .run_protocol import Job

DIRECTORY = "private"
"""The directory of the bundle; ``@bundle@/private`` in plans."""


def unpack(job: Job, fd: int) -> None:
    """Put the secrets in their place: files below the bundle, variables into the job's spec.

    With variables the runtime's configuration and state, which repeat them, are in memory as well. Raises
    HostError if nothing can be mounted, or an owner does not exist.
    """
    directory = os.path.join(job["bundle"], DIRECTORY)
    try:
        m.unshare(m.CLONE_NEWNS)
        m.mount("", "/", flags=m.MS_SLAVE | m.MS_REC)
        _mount_memory(directory, any(mode & 0o111 for _, mode, *_ in job["secrets"]["files"]))
    except OSError as error:
        raise HostError(
            f"secrets need a filesystem in memory, which can't be mounted here: {error.strerror}"
        ) from None
    with os.fdopen(fd, "rb") as stream:
        for name, mode, uid, gid, size in job["secrets"]["files"]:
            _put(os.path.join(directory, name), stream.read(size), mode, uid, gid)
        variables = {name: stream.read(size).decode() for name, size in job["secrets"]["variables"]}
    if variables:
        process = job["spec"]["process"]
        kept = [entry for entry in process["env"] if entry.partition("=")[0] not in variables]
        process["env"] = kept + [f"{name}={value}" for name, value in variables.items()]
        job["config"] = directory
        job["state"] = os.path.join(directory, "runtime")


def _mount_memory(directory: str, executable: bool) -> None:
    flags = m.MS_NOSUID | m.MS_NODEV
    if not executable:
        flags |= (
            m.MS_NOEXEC
        )  # an executable file's own bind mount could not remove this flag in a user namespace
    try:
        m.mount("tmpfs", directory, "tmpfs", flags, "mode=711,noswap")
    except OSError:  # before Linux 6.4, or not root of the machine: it may be swapped to the disk
        m.mount("tmpfs", directory, "tmpfs", flags, "mode=711")


def _put(path: str, data: bytes, mode: int, uid: int, gid: int) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
        stream.write(data)
        try:
            os.fchown(stream.fileno(), uid, gid)
        except OSError as error:
            raise HostError(f"a secret can't belong to {uid}:{gid}: {error.strerror}") from None
        os.fchmod(stream.fileno(), mode)
