"""The types that both the isolations and the networks know."""

from __future__ import annotations

from typing import Any, Protocol

STATE = "/run/buildfront/network"
"""A directory for each network namespace that has a bridge of ours, named by the namespace's inode and
cookie."""


class NetworkError(Exception):
    """A network that can't be made; the text is for the user."""


class Network(Protocol):
    """The network of one step.

    ``addresses`` are the step's addresses, ``gateways`` those by which it reaches the machine. ``dns`` holds
    the network's name server settings in the form of a CNI result (``nameservers``, ``search``, ``domain``,
    ``options``).
    """

    pid: int
    """The ID of the process that serves the network, a child of ours, or 0. The network ends when the process ends."""
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    dns: dict[str, Any]
    warnings: list[str]

    def words(self) -> str:
        """The output of the network's process, for an error message."""

    def close(self) -> None:
        """Tear it down. Never raises."""
