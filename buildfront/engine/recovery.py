"""Removes the files that killed builders left in a store, when the next build starts."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import run_step

from ..store.image_store import Store


def recover_sessions(
    store: Store, *, runtimes: Sequence[str] = (), cni_plugin_dirs: Sequence[str] = ()
) -> tuple[str, ...]:
    """Remove sessions whose process is gone, and what their steps left on the machine; return warnings of what is left.

    Only directories that belong to us are looked into, and links are not followed. ``runtimes`` and ``cni_plugin_dirs``
    are those of this build's options, which the notes of a killed one may name (see :func:`run_step.recover`). Raise
    BuildError for what can't be removed.
    """
    warnings: list[str] = []
    if store.catalogue.read_only:
        return ()
    for path in store.stale_sessions():
        try:
            for name in os.listdir(path):
                # A directory of the executor; the rest of the session holds files of images.
                if name.startswith("run-") and _is_ours(os.path.join(path, name)):
                    place = os.path.join(path, name)
                    warnings += run_step.recover(place, runtimes=runtimes, cni_plugin_dirs=cni_plugin_dirs)
            store.remove_stale(path)
        except FileNotFoundError:
            pass  # another program removes it too
        except OSError as error:
            raise store.told(error) from error
    return tuple(warnings)


def _is_ours(path: str) -> bool:
    """Return whether a directory, and all bundles in it, belong to us and no other user can change them."""
    for place in (
        path,
        *(os.path.join(path, name) for name in os.listdir(path) if name.startswith("bundle-")),
    ):
        status = os.lstat(place)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return False
    return True
