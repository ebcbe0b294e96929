"""The types that both the isolations and the networks know."""

from __future__ import annotations

from typing import Any, Protocol

STATE = "/run/buildfront/network"
"""A directory for each network namespace that has a bridge of ours, named by the namespace's inode and
cookie."""


class NetworkError(Exception):
    """A network can't be made; the text is for the user."""


class Network(Protocol):
    """One step's network.

    ``addresses`` are the step's; ``gateways`` are the addresses at which it reaches the machine; ``dns`` has the
    network's name servers as a CNI result does (``nameservers``, ``search``, ``domain``, ``options``).
    """

    pid: int
    """The process that serves it, a child of ours, or 0: its end is the network's end."""
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    dns: dict[str, Any]
    warnings: list[str]

    def words(self) -> str:
        """Return its last output, for an error."""

    def close(self) -> None:
        """Tear it down. Never raises."""
