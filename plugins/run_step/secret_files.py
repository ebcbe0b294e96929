"""The secrets of a step, which must not be on a disk: they are in a filesystem in memory that no other process sees.

The supervised child (see :mod:`run_step.supervisor`) moves into a mount namespace of its own for that.
However it ends, the kernel removes the filesystem. The builder's side is :func:`pack`. The module makes no
decisions.
"""

from __future__ import annotations

import os
from typing import Any

from .errors import HostError
from .inputs import Inputs
from .linux import mount as m
from .planning import PutSecret, RunPlan, SetSecret

DIRECTORY = "private"
"""The directory of a bundle for secrets; ``@bundle@/private`` in plans."""


def pack(plan: RunPlan, inputs: Inputs) -> tuple[dict[str, Any], int]:
    """Return the job's description of the plan's secrets, and a descriptor of a file in memory with their bytes.

    Returns an empty description and -1 for a plan without secrets. The caller closes the descriptor.
    """
    wanted = [action for action in plan.actions if isinstance(action, PutSecret | SetSecret)]
    if not wanted:
        return {}, -1
    fd = os.memfd_create("secrets", os.MFD_CLOEXEC)
    files, variables = [], []
    for action in wanted:
        data = inputs.secrets[action.id].data
        if isinstance(action, PutSecret):
            files.append([action.name, action.mode, action.uid, action.gid, len(data)])
        else:
            variables.append([action.variable, len(data)])
    ordered = sorted(wanted, key=lambda action: isinstance(action, SetSecret))  # as unpack() reads them
    with os.fdopen(os.dup(fd), "wb") as stream:
        for action in ordered:
            stream.write(inputs.secrets[action.id].data)
    os.lseek(fd, 0, os.SEEK_SET)
    return {"files": files, "variables": variables}, fd


def unpack(job: dict[str, Any], fd: int) -> None:
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
