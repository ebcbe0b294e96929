"""The plan of a RUN step as plain data: all that was decided, before anything is changed.

A plan names its places by tokens, never by this machine's paths: ``@rootfs@`` is the root filesystem and
``@bundle@`` the private directory of the run. So it can be printed, compared with a golden file and executed
elsewhere. :func:`run_step.execute` puts the real paths in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .codec import encode

ROOTFS = "@rootfs@"
BUNDLE = "@bundle@"


@dataclass(frozen=True)
class GeneratedFile:
    """A file made for the step in the bundle, to be bound into the root filesystem by a mount of the spec."""

    name: str
    content: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class MakeDirectory:
    """Create a directory in the root filesystem when it is missing; it stays, as part of the step's result."""

    path: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class MountPoint:
    """Make a place to mount on when there is none, and take it away again after the step.

    ``path`` is absolute inside the root filesystem; ``directory`` says what to make, ``mode`` with which mode
    (a directory; some runtimes give it to the tmpfs mounted there, whatever the mount's own options say).
    """

    path: str
    directory: bool
    mode: int = 0o755


@dataclass(frozen=True)
class TakeSource:
    """Show what the frontend hands over as the source ``name`` at ``@bundle@/sources/NAME``, and make a place of its
    kind to mount it on at ``path``, as :class:`MountPoint` does; no place where ``path`` is empty."""

    name: str
    path: str


@dataclass(frozen=True)
class PutSecret:
    """Put the secret ``id`` into ``@bundle@/private/NAME``, which is in memory alone, with this mode and owner of the
    host."""

    id: str
    name: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class SetSecret:
    """Set the environment variable ``variable`` of the step to the secret ``id``."""

    id: str
    variable: str


@dataclass(frozen=True)
class ForwardAgent:
    """Make the SSH agent ``id`` reachable through the socket ``@bundle@/agents/NAME`` while the step runs, with this
    mode and owner of the host."""

    id: str
    name: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class CopyVolume:
    """Fill ``@bundle@/volumes/NAME`` with what the image has at ``path``, owner and mode kept."""

    path: str
    name: str


@dataclass(frozen=True)
class CopyTree:
    """Copy ``source`` of the host to ``@bundle@/NAME``, readable for the step's root alone."""

    source: str
    name: str


@dataclass(frozen=True)
class MakeScratch:
    """``@bundle@/overlay/NAME`` with the directories ``upper`` and ``work`` of an overlay over ``source`` of the
    host; ``upper`` gets its mode and owner."""

    source: str
    name: str


@dataclass(frozen=True)
class ChangeOwner:
    """Give ``source`` of the host and all below it to ``uid`` and ``gid`` of the host, links themselves too."""

    source: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Relabel:
    """Give ``source`` of the host and all below it the SELinux label ``label``."""

    source: str
    label: str


@dataclass(frozen=True)
class PutFile:
    """Put ``@bundle@/files/NAME`` in place at ``path`` where nothing can be mounted, and what the image has there,
    or nothing, back after the step. What ``path`` itself is, a link too, is set aside; links above it are followed
    inside the root filesystem."""

    name: str
    path: str


@dataclass(frozen=True)
class PutDirectory:
    """Put an empty directory in place at ``path`` where the root filesystem has something else, a link for one, and
    that back after the step. Links above ``path`` are followed inside the root filesystem."""

    path: str


@dataclass(frozen=True)
class MakeNode:
    """Make a character device node where the root filesystem has nothing at ``path``, and take it away again."""

    path: str
    major: int
    minor: int


Action = (
    PutFile
    | PutDirectory
    | MakeNode
    | CopyTree
    | MakeDirectory
    | MountPoint
    | CopyVolume
    | MakeScratch
    | ChangeOwner
    | Relabel
    | TakeSource
    | PutSecret
    | SetSecret
    | ForwardAgent
)


@dataclass(frozen=True)
class NetworkPlan:
    """``host``: the builder's network. ``none``: a new namespace with the loopback device alone. ``path``: an existing
    namespace. ``bridge``, ``slirp4netns``, ``pasta``: a new one, connected by that. ``cni``: connected to the networks
    ``names`` by ``configs`` (each with ``name``, ``cniVersion``, ``plugins`` and ``runtimeConfig``), their plugins
    looked for in ``plugin_dirs``; ``own_dns``: what they say of name servers counts."""

    mode: str
    path: str = ""
    names: tuple[str, ...] = ()
    configs: tuple[dict[str, Any], ...] = ()
    plugin_dirs: tuple[str, ...] = ()
    own_dns: bool = False


@dataclass(frozen=True)
class RunPlan:
    """All that a RUN step needs. ``spec`` is an OCI runtime configuration (runtime-spec 1.0.2) as JSON values."""

    isolation: str
    container_id: str
    spec: dict[str, Any]
    files: tuple[GeneratedFile, ...] = ()
    actions: tuple[Action, ...] = ()
    network: NetworkPlan = NetworkPlan("host")
    runtime: str = ""
    runtime_flags: tuple[str, ...] = ()
    no_pivot: bool = False
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, keys in a fixed order."""
        out: dict[str, Any] = encode(self)
        if self.network.mode != "cni":
            for name in ("configs", "plugin_dirs", "own_dns"):
                del out["network"][name]
        out["actions"] = [
            {"do": type(item).__name__, **encode(item, defaults=False)} for item in self.actions
        ]
        return out


def host_id(linux: dict[str, Any], kind: str, number: int) -> int:
    """The host's ID of the step's ``number`` by ``uidMappings`` or ``gidMappings`` of a spec's ``linux`` object; what
    is not mapped stays."""
    for item in linux.get(kind, ()):
        if item["containerID"] <= number < item["containerID"] + item["size"]:
            return int(item["hostID"]) + number - int(item["containerID"])
    return number
