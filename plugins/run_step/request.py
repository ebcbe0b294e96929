"""The request of a frontend: one RUN step, as plain frozen data.

This is the contract with every frontend. It holds no decisions (the pipeline makes them) and touches
nothing. Options that users write as text (``nofile=1024:2048``, ``host:container:ro``) stay text here and
are parsed by the pipeline stage that owns them, so that an error can quote what was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .codec import decode, encode
from .field_types import Typed

ISOLATIONS = ("oci", "chroot", "rootless")
"""The isolations, of which ``auto`` becomes one, see :func:`run_step.choose_isolation`."""

CONTAINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", re.ASCII)
"""The form of a container's name, which becomes a part of paths."""

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "user", "uts")
"""Namespace names of the OCI runtime specification (config-linux.md, "Namespaces")."""


@dataclass(frozen=True)
class NamespaceOption(Typed):
    """One namespace: the host's (``host``), an existing one (``path``), or a new one (neither)."""

    name: str
    host: bool = False
    path: str = ""


@dataclass(frozen=True)
class IDMapping(Typed):
    """One line of an ID map (user_namespaces(7))."""

    container_id: int
    host_id: int
    size: int


@dataclass(frozen=True)
class Resources(Typed):
    """Cgroup limits. Zero and the empty string mean "not set"; sizes are bytes, periods microseconds.

    ``pids`` is the number of processes and threads at one time, -1 for no limit.
    """

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory: int = 0
    memory_swap: int = 0
    cgroup_parent: str = ""
    pids: int = 0


@dataclass(frozen=True)
class ConsoleSize(Typed):
    """The size of a terminal, in characters."""

    width: int
    height: int


@dataclass(frozen=True)
class ImageDefaults(Typed):
    """The defaults of the image for processes that run in it (OCI image config, "config")."""

    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    hostname: str = ""


AGENT_SOCKET = "/run/buildkit/ssh_agent."
"""The default place of an agent's socket in the step, to which its number is added; BuildKit's name."""

MOUNT_KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
"""The types of mounts that a RUN instruction may have (Dockerfile reference, "RUN --mount")."""


@dataclass(frozen=True)
class RunMount(Typed):
    """One mount of the RUN instruction itself (``RUN --mount``), its source found by the frontend.

    ``target`` is a path in the step, a relative one counts from its working directory; empty where ``kind`` has a
    default place: ``/run/secrets/ID`` for a secret, or none if ``env`` names a variable for it, and
    ``/run/buildkit/ssh_agent.N`` for the socket of an agent. ``source`` (bind, cache) and ``id`` (secret, ssh) are
    names: their contents are handed over when the plan is executed, see :class:`run_step.Inputs`, and are never in a
    plan. ``size`` (tmpfs) is bytes, zero for no limit. ``mode``, ``uid`` and ``gid`` are those of the file that holds
    a secret (0400, root's) and of an agent's socket (0600, of the step's user); IDs as the step sees them.
    """

    kind: str
    target: str = ""
    source: str = ""
    read_only: bool = False
    id: str = ""
    env: str = ""
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


_OWN_DEVICES = "console core fd full null ptmx random stderr stdin stdout tty urandom zero".split()
"""The names in a step's /dev (OCI runtime-linux.md, "Default Devices", "Dev symbolic links")."""


def _is_text(path: str) -> bool:
    """Whether the text is the same after a way through JSON, which is UTF-8 (RFC 8259)."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


KERNEL = ("/dev", "/proc", "/sys")
"""The places at which a step has filesystems of the kernel."""


def wrong_target(path: str) -> str:
    """Return why nothing can be mounted at this absolute, clean path; empty where it can."""
    if "\0" in path:
        return f"the target {path!r} has a null byte"
    if not _is_text(path):
        return f"the target {path!r} is not UTF-8, and runtimes would mount it elsewhere"
    if path == "/":
        return "the target is the root directory, which is the image's own"
    for top in ("/proc", "/sys"):
        # A place to mount on that /sys lacks would be made in the host's, for it may be the host's that is shown there.
        if path == top or path.startswith(top + "/"):
            return f"the target {path} is in {top}, which is the kernel's; nothing can be mounted there"
    if path == "/dev" or (path.startswith("/dev/") and path.split("/")[2] in _OWN_DEVICES):
        # The step's /dev/null hides masked files of /proc: it must be the one that belongs there.
        return f"the target {path} is of the step's own /dev; nothing can be mounted there"
    return ""


@dataclass(frozen=True)
class RunRequest(Typed):
    """One RUN step.

    ``args`` is the command as it will be executed (a shell form has its shell in front already).
    ``rootfs`` is the absolute path of a mounted, writable root filesystem.
    ``env`` (``NAME=value``) is the step's own environment, laid over the image's.
    ``seccomp`` is the text of a profile, ``unconfined``, or empty for the default profile.
    ``network`` is ``default``, ``host``, ``none``, ``private``, ``bridge``, ``slirp4netns``, ``pasta``,
    ``ns:PATH``, or names of CNI networks with commas between them.
    ``volumes`` are ``host:container[:opts]``, ``mounts`` are ``type=bind|tmpfs,…``, ``run_mounts`` those of the RUN
    instruction itself.
    ``devices`` are paths (``host[:container][:rwm]``) or CDI names; their meaning on this host is in its facts,
    see :func:`run_step.look_up`. ``isolation`` is ``oci``, ``rootless``, ``chroot``, or ``auto`` (also the empty
    string) for the best that the facts allow.
    """

    args: tuple[str, ...]
    rootfs: str
    image: ImageDefaults = ImageDefaults()
    container_id: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    cwd: str = ""
    hostname: str = ""
    isolation: str = ""
    runtime: str = ""
    runtime_flags: tuple[str, ...] = ()
    no_pivot: bool = False
    namespaces: tuple[NamespaceOption, ...] = ()
    network: str = "default"
    cni_config_dirs: tuple[str, ...] = ()
    cni_plugin_dirs: tuple[str, ...] = ()
    uid_map: tuple[IDMapping, ...] = ()
    gid_map: tuple[IDMapping, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = ()
    resources: Resources = Resources()
    add_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    no_hosts: bool = False
    no_hostname: bool = False
    volumes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    run_mounts: tuple[RunMount, ...] = ()
    shm_size: str = ""
    http_proxy: bool = False
    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    cdi_spec_dirs: tuple[str, ...] = ()
    hooks_dirs: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    umask: str = ""
    oom_score_adj: int | None = None
    default_ulimits: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    terminal: str = "default"
    console_size: ConsoleSize | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that :meth:`from_json` reads; fields with their default are left out."""
        result: dict[str, Any] = encode(self, defaults=False)
        return result

    @classmethod
    def from_json(cls, data: Any) -> RunRequest:
        """Read the JSON object of :meth:`to_json`. Raises RequestError with the place of the first fault."""
        return decode(cls, data)
