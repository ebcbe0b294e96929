"""What connects a step's own network namespace, made after the namespace and before the command (row S76).

Runs in the supervised child. A network is torn down in every outcome; its end while the step runs is an error.
"""

from __future__ import annotations

from typing import Any, Protocol

USER_MODE = ("slirp4netns",)
"""Modes that an unprivileged process serves."""


class NetworkError(Exception):
    """A network that can't be had; the text is for the user."""


class Network(Protocol):
    """One step's network."""

    pid: int
    """The process that serves it, a child of ours, or 0: its end is the network's end."""

    def words(self) -> str:
        """What it said, for an error."""

    def close(self) -> None:
        """Tear it down. Never raises."""


def connect(job: dict[str, Any], pid: int) -> Network | None:
    """Connect the network namespace of ``pid`` as the job says; None where there is nothing to do.

    Raises NetworkError.
    """
    mode = job.get("network", "")
    if mode == "slirp4netns":
        from .slirp4netns import Slirp4netns

        return Slirp4netns(pid, job["bundle"])
    return None
