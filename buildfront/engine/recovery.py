"""What builders that were killed left in a store, taken away by the next build that starts."""

from __future__ import annotations

import os
from contextlib import suppress

from ..store import Store


def recover_sessions(store: Store) -> None:
    """Remove sessions whose process is gone, and what their steps left on the machine. Costs nothing where none is."""
    for path in store.stale_sessions():
        from run_step import recover

        with suppress(FileNotFoundError):  # another program takes it away as well
            for name in os.listdir(path):
                if name.startswith("run-"):  # the executor's; the rest of the session holds strangers' files
                    recover(os.path.join(path, name))
        store.remove_stale(path)
