"""WORKDIR: the directory exists afterwards."""

from __future__ import annotations

from run_step import Root

from ..errors import BuildError
from ..graph.model import WorkdirOp


def perform(op: WorkdirOp, root: Root) -> bool:
    """Make it; returns whether anything had to be made. Raises BuildError where a file is in the way."""
    try:
        return bool(root.make_dirs(op.path, 0o755, 0, 0))
    except NotADirectoryError:
        raise BuildError(f"WORKDIR {op.path}: a file of the image is in the way") from None
    except OSError as error:
        raise BuildError(f"WORKDIR {op.path} can't be made: {error.strerror}") from None
