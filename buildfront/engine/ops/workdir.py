"""WORKDIR: a directory that exists afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from run_step import Root

from ...errors import BuildError
from ...graph.step_graph import Step, WorkdirOp
from ..active_build import ActiveBuild
from ..cache_lookup import key_for, recall
from ..operation import Reads
from ..result import Result
from ..state import State
from .owners import find_owner


class WorkdirOperation:
    """One WORKDIR. It has a layer, as in BuildKit; an empty one where the directory exists already."""

    def __init__(self, step: Step, op: WorkdirOp) -> None:
        self.step = step
        self.op = op

    def check(self, state: State) -> None:
        """Do nothing: it requires nothing from the caller."""

    def reads(self, state: State) -> Reads:
        """Return nothing."""
        return ()

    def key_parts(self, reads: Reads, run_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the directory and its owner; and that there is a layer, which older versions made only of a change."""
        created = {} if self.op.created is None else {"created": self.op.created}
        return {"path": self.op.path, "user": self.op.user, "layer": True, **created}

    def recall(self, state: State, key: str) -> Result | None:
        """Return the result that the catalogue has for this key."""
        return recall(state, self.step, key)

    def perform(self, build: ActiveBuild) -> Result:
        """Make the directory."""
        build.report.start(self.step)
        key = key_for(build.state, self, ())
        before = build.state.parent(self.step)
        empty = before.snapshot is None and before.base is None
        return build.change(self.step, key, partial(make_directory, self.op, empty=empty))


def make_directory(op: WorkdirOp, root: Root, *, empty: bool = False) -> bool:
    """Make the directory, and return whether anything had to be made.

    It belongs to the user, or to root where the image does not know that user. ``empty``: the root filesystem is that
    of ``FROM scratch``, in which, as in BuildKit, no name can be looked up.

    Raise BuildError for such a name, and where a file is in the way.
    """
    try:
        found, _ = find_owner(None if empty else root, op.user)
        uid, gid = found or (0, 0)
    except BuildError:
        if empty:
            raise BuildError(
                f"WORKDIR {op.path}: its user {op.user!r} can't be looked up in an empty root filesystem",
                hint="use numbers, as in USER 1000:1000, or copy something before",
            ) from None
        uid = gid = 0
    try:
        made = root.make_dirs(op.path, 0o755, uid, gid)
        for path in reversed(made) if op.created is not None else ():
            fd = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.utime(fd, (op.created or 0, op.created or 0))
            finally:
                os.close(fd)
        return bool(made)
    except NotADirectoryError:
        raise BuildError(f"WORKDIR {op.path}: a file of the image is in the way") from None
    except OSError as error:
        raise BuildError(f"WORKDIR {op.path} can't be made: {error.strerror}") from None
