"""The plan of a RUN step as plain data: all that was decided, before anything is changed.

A plan names its places by tokens, never by this machine's paths: ``@rootfs@`` is the root filesystem and
``@bundle@`` the private directory of the run. So it can be printed, compared with a golden file and executed
elsewhere. :func:`run_step.execute` puts the real paths in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

from .codec import decode, encode
from .documents import short
from .errors import RequestError
from .plan_checks import check_choices, check_files, check_item, check_runtime, check_spec
from .spec_types import Spec

ROOTFS = "@rootfs@"
BUNDLE = "@bundle@"

COPIED_FILES = "secrets/files"
"""The directory of the bundle for the copies of single files of the host."""

BUNDLE_FILES = tuple(f"{BUNDLE}/{name}/" for name in ("files", "private", "agents", COPIED_FILES))
"""The directories of the bundle that have only files, as sources of mounts have them."""


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
    """Show the source ``name`` of the frontend at ``@bundle@/sources/NAME``, and make a place for it at ``path``.

    The place is made as :class:`MountPoint` makes it, a directory or a file like the source; none where ``path`` is
    empty.
    """

    name: str
    path: str


@dataclass(frozen=True)
class PutSecret:
    """Put the secret ``id`` into ``@bundle@/private/NAME``, which is only in memory.

    ``mode``, ``uid`` and ``gid`` are those of the host.
    """

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
    """Make the SSH agent ``id`` reachable through the socket ``@bundle@/agents/NAME`` while the step runs.

    ``mode``, ``uid`` and ``gid`` are those of the host.
    """

    id: str
    name: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class CopyVolume:
    """Fill ``@bundle@/volumes/NAME`` with the files that the image has at ``path``; owner and mode are kept."""

    path: str
    name: str


@dataclass(frozen=True)
class CopyTree:
    """Copy ``source`` of the host to ``@bundle@/NAME``, readable only for the step's root."""

    source: str
    name: str


@dataclass(frozen=True)
class MakeScratch:
    """Make ``@bundle@/overlay/NAME``, the directories ``upper`` and ``work`` of an overlay over ``source`` of the host.

    ``upper`` gets the mode and owner of ``source``.
    """

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
    """Put ``@bundle@/files/NAME`` in place at ``path`` where nothing can be mounted; restore the path after the step.

    ``path`` itself, a link too, is set aside; links above it are followed inside the root filesystem.
    """

    name: str
    path: str


@dataclass(frozen=True)
class PutDirectory:
    """Put an empty directory in place at ``path``, and restore what the root filesystem has there after the step.

    Links above ``path`` are followed inside the root filesystem.
    """

    path: str


@dataclass(frozen=True)
class MakeNode:
    """Make a character device node where the root filesystem has nothing at ``path``, and remove it after the step."""

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
    """The network of a step.

    ``mode`` is ``host``: the builder's network; ``none``: a new namespace with only the loopback device; ``path``:
    an existing namespace; ``bridge``, ``slirp4netns``, ``pasta``: a new one, connected by that; ``cni``: connected
    to the networks ``names`` by ``configs`` (each with ``name``, ``cniVersion``, ``plugins`` and
    ``runtimeConfig``), with plugins from ``plugin_dirs``. ``own_dns``: the name servers that the networks give are
    used.
    """

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

    @property
    def destinations(self) -> tuple[str, ...]:
        """The absolute paths in the step at which something is mounted."""
        return tuple(item["destination"] for item in self.spec.get("mounts", ()))

    @property
    def network_mode(self) -> str:
        """How the step is connected, see :class:`NetworkPlan`."""
        return self.network.mode

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values, keys in a fixed order."""
        out: dict[str, Any] = encode(self)
        if self.network.mode != "cni":
            for name in ("configs", "plugin_dirs", "own_dns"):
                del out["network"][name]
        out["actions"] = [
            {"do": type(item).__name__, **encode(item, defaults=False)} for item in self.actions
        ]
        return out

    @classmethod
    def from_json(cls, data: Any) -> RunPlan:
        """Return the plan that :meth:`to_json` gave.

        What it holds is checked for its form, not for what it does: whoever executes a plan trusts it. Raises
        RequestError with the place of the first thing that is wrong.
        """
        if not isinstance(data, dict):
            raise RequestError(f"plan: an object is wanted, not {short(data)}")
        actions = data.get("actions", [])
        if not isinstance(actions, list):
            raise RequestError(f"plan.actions: a list is wanted, not {short(actions)}")
        made = decode(cls, {**data, "actions": []}, "plan")
        made = replace(
            made,
            actions=tuple(_action(item, f"plan.actions[{number}]") for number, item in enumerate(actions)),
        )
        check_choices(made.isolation, made.container_id, made.network.mode)
        check_spec(decode(Spec, made.spec, "plan.spec"))
        check_files(made.files)
        check_runtime(made.runtime, made.runtime_flags)
        return made


_ACTIONS: dict[str, type[Action]] = {kind.__name__: kind for kind in get_args(Action)}


def _action(data: Any, place: str) -> Action:
    name = data.get("do") if isinstance(data, dict) else None
    kind = _ACTIONS.get(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(sorted(_ACTIONS))
        raise RequestError(f"{place}: an object is wanted whose field 'do' is one of {known}")
    action = decode(kind, {key: value for key, value in data.items() if key != "do"}, place)
    check_item(action, place)
    return action


def host_id(linux: dict[str, Any], kind: str, number: int) -> int:
    """Return the host's ID of the step's ``number`` by a spec's ``uidMappings`` or ``gidMappings``.

    A number that is not mapped stays as it is.
    """
    for item in linux.get(kind, ()):
        if item["containerID"] <= number < item["containerID"] + item["size"]:
            return int(item["hostID"]) + number - int(item["containerID"])
    return number
