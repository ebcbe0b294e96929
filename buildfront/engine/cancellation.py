"""Stopping a build before it is complete."""

from __future__ import annotations

import threading

from ..errors import BuildError


class Cancelled(BuildError):
    """The build was stopped: another step failed, or the user interrupted it."""

    def __init__(self) -> None:
        super().__init__("the build was stopped", status=130)


class Cancellation:
    """Whether a build is to stop, and why. Methods may be called by several threads.

    ``event`` is set when the build is to stop. ``failed``: it stops because a step failed.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.failed = False

    def stop(self) -> None:
        """Stop everything."""
        self.event.set()

    def fail(self) -> None:
        """Stop because a step failed. The layers of steps that are done are still written."""
        self.failed = self.failed or not self.event.is_set()
        self.event.set()

    def check(self) -> None:
        """Raise Cancelled when the build is to stop."""
        if self.event.is_set():
            raise Cancelled

    def check_layer(self) -> None:
        """Raise Cancelled when layers of steps that are done are not to be written any more."""
        if not self.failed:
            self.check()
