"""What builders that were killed left in a store, taken away by the next build that starts."""

from __future__ import annotations

import os
import stat

from ..store import Store


def recover_sessions(store: Store) -> None:
    """Remove sessions whose process is gone, and what their steps left on the machine. Costs nothing where none is.

    Only directories of ours are looked into, links are not followed.

    Raises BuildError for what can't be removed.
    """
    if store.catalogue.read_only:
        return
    for path in store.stale_sessions():
        from run_step import recover

        try:
            for name in os.listdir(path):
                # The executor's; the rest of the session holds strangers' files.
                if name.startswith("run-") and _is_ours(os.path.join(path, name)):
                    recover(os.path.join(path, name))
            store.remove_stale(path)
        except FileNotFoundError:
            pass  # another program takes it away as well
        except OSError as error:
            raise store.told(error) from error


def _is_ours(path: str) -> bool:
    """Whether a directory, and all bundles in it, belong to us and can be changed by nobody else."""
    for place in (
        path,
        *(os.path.join(path, name) for name in os.listdir(path) if name.startswith("bundle-")),
    ):
        status = os.lstat(place)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return False
    return True
