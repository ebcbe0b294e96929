"""Steps that several stages have in common: each is carried out once in a build."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

_PAUSE = 0.1
"""Seconds between two looks at whether the build is to stop."""


class CommonSteps:
    """The snapshots that the steps of one build have made, by what the steps do and on what.

    If two stages begin with the same steps, they run at the same time, when neither is in the catalogue. Were both
    carried out, their files would have different times, and the next build could use only one of them.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._made: dict[Hashable, int] = {}
        self._busy: dict[Hashable, threading.Event] = {}

    def once(self, name: Hashable, make: Callable[[], int]) -> int:
        """Return the snapshot with this name. The first caller makes it, and the others wait for it.

        If ``make`` raises, this caller gets the error, and one that waits takes over.
        """
        while True:
            with self._lock:
                if name in self._made:
                    return self._made[name]
                busy = self._busy.get(name)
                if busy is None:
                    mine = self._busy[name] = threading.Event()
                    break
            while not busy.wait(_PAUSE):
                self._check()
            self._check()
        try:
            made = make()
            with self._lock:
                self._made[name] = made
            return made
        finally:
            with self._lock:
                del self._busy[name]
            mine.set()
