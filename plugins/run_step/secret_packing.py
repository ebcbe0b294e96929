"""The secrets of a run, packed into a file in memory for the supervised child (:mod:`run_step.secret_files`)."""

from __future__ import annotations

import os

from .inputs import Inputs
from .planning import PutSecret, RunPlan, SetSecret
from .run_protocol import SecretsJob


def pack(plan: RunPlan, inputs: Inputs) -> tuple[SecretsJob | None, int]:
    """Return the job's description of the plan's secrets, and a descriptor of a file in memory with their bytes.

    Returns None and -1 for a plan without secrets. The caller closes the descriptor.
    """
    wanted = [action for action in plan.actions if isinstance(action, PutSecret | SetSecret)]
    if not wanted:
        return None, -1
    fd = os.memfd_create("secrets", os.MFD_CLOEXEC)
    job: SecretsJob = {"files": [], "variables": []}
    for action in wanted:
        data = inputs.secrets[action.id].data
        if isinstance(action, PutSecret):
            job["files"].append((action.name, action.mode, action.uid, action.gid, len(data)))
        else:
            job["variables"].append((action.variable, len(data)))
    ordered = sorted(wanted, key=lambda action: isinstance(action, SetSecret))  # as unpack reads them
    with os.fdopen(os.dup(fd), "wb") as stream:
        for action in ordered:
            stream.write(inputs.secrets[action.id].data)
    os.lseek(fd, 0, os.SEEK_SET)
    return job, fd
