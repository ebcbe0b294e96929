"""The secrets of a run, packed into a file in memory for the supervised child (:mod:`run_step.secret_files`)."""

from __future__ import annotations

import os
from typing import Any

from .inputs import Inputs
from .planning import PutSecret, RunPlan, SetSecret


def pack(plan: RunPlan, inputs: Inputs) -> tuple[dict[str, Any], int]:
    """Return the job's description of the plan's secrets, and a descriptor of a file in memory with their bytes.

    Both are empty, {} and -1, for a plan without secrets. The caller closes the descriptor.
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
    ordered = sorted(wanted, key=lambda action: isinstance(action, SetSecret))  # as unpack reads them
    with os.fdopen(os.dup(fd), "wb") as stream:
        for action in ordered:
            stream.write(inputs.secrets[action.id].data)
    os.lseek(fd, 0, os.SEEK_SET)
    return {"files": files, "variables": variables}, fd
