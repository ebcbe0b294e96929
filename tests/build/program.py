"""Where the console script under test is, and what test workers make once for all of them."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUILDFRONT = str(Path(sys.executable).parent / "buildfront")
PROJECT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("BUILDFRONT_TEST_CACHE") or PROJECT / ".cache" / "tests")


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """A file of the shared cache, made by the first worker that asks."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name
