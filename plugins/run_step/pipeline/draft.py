"""The plan while the pipeline works on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..planning import Action, GeneratedFile, NetworkPlan, host_id
from ..request import NamespaceOption
from ..rootfs import Root


@dataclass
class Draft:
    """The plan while the pipeline works on it. A stage changes the draft and nothing else.

    Into the plan go ``spec``, ``files``, ``actions``, ``network`` and ``warnings``; ``isolation`` and ``container_id``
    as they were at the start. All else is what stages tell those behind them; docs/plugin.md says which.

    ``root`` is the root filesystem, to be read only. ``spec`` is the OCI runtime configuration. ``options`` are the
    namespaces that were asked for, by name; ``namespaces`` those that the step gets (type to path, empty for a new
    one), and ``host_namespaces`` the others. ``env`` is the environment, which ``spec`` repeats. ``home`` is the home
    directory of the user. ``files`` are made in the bundle, each bound to a destination by ``bound`` (name,
    destination). ``extra_mounts`` are those that devices bring. ``container_root`` has the host's IDs of the step's
    root. ``claimed`` are the destinations of mounts that were asked for, which no default may take.
    """

    root: Root
    isolation: str
    container_id: str
    spec: dict[str, Any]
    home: str = "/"
    options: dict[str, NamespaceOption] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)
    host_namespaces: frozenset[str] = frozenset()
    network: NetworkPlan = field(default_factory=lambda: NetworkPlan("host"))
    files: list[GeneratedFile] = field(default_factory=list)
    extra_mounts: list[dict[str, Any]] = field(default_factory=list)
    container_root: tuple[int, int] = (0, 0)
    claimed: frozenset[str] = frozenset()
    bound: list[tuple[str, str]] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def process(self) -> dict[str, Any]:
        """The spec's ``process`` object."""
        process: dict[str, Any] = self.spec["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        """The spec's ``linux`` object."""
        linux: dict[str, Any] = self.spec["linux"]
        return linux

    def is_mapped(self, kind: str, number: int) -> bool:
        """Whether the step's ``number`` is an ID on the host, by the spec's ``uidMappings`` or ``gidMappings``."""
        maps = self.linux.get(kind, ())
        return not maps or any(0 <= number - item["containerID"] < item["size"] for item in maps)

    def host_id(self, kind: str, number: int) -> int:
        """See :func:`host_id`."""
        return host_id(self.linux, kind, number)
