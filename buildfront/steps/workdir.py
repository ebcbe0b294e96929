"""WORKDIR: the directory exists afterwards."""

from __future__ import annotations

from run_step import Root

from ..errors import BuildError
from ..graph.step_graph import WorkdirOp
from .copy import owner


def perform(op: WorkdirOp, root: Root) -> bool:
    """Make it; returns whether anything had to be made. It belongs to the user, to root where the image does not
    know that one. Raises BuildError where a file is in the way."""
    try:
        uid, gid = owner(root, op.user) or (0, 0)
    except BuildError:
        uid = gid = 0
    try:
        return bool(root.make_dirs(op.path, 0o755, uid, gid))
    except NotADirectoryError:
        raise BuildError(f"WORKDIR {op.path}: a file of the image is in the way") from None
    except OSError as error:
        raise BuildError(f"WORKDIR {op.path} can't be made: {error.strerror}") from None
