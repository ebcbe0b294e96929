"""The facts of the host: everything that planning may know of it, as plain data.

They are probed once for a build (:mod:`run_step.host_probe`); tests and ``--host-facts`` read a recorded file instead.
So a plan is the same on every machine that has the same facts. Planning reads nothing else of the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import documents
from .codec import decode, encode
from .errors import RequestError
from .linux import id_maps
from .linux.id_maps import ALL_IDS

PROTECTED = frozenset(
    "/ /bin /boot /dev /etc /home /lib /lib32 /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp"
    " /usr /var".split()
)
"""Directories of a host that no build may give another label or owner: the host would not survive it."""


@dataclass(frozen=True)
class RuntimeFact:
    """An OCI runtime found on PATH. ``works`` is whether it ran a container here; ``why`` says why not."""

    name: str
    path: str
    works: bool
    why: str = ""


@dataclass(frozen=True)
class Rlimit:
    """One resource limit of the builder. -1 is unlimited (getrlimit(2))."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True)
class DeviceFact:
    """A device node of the host: ``type`` ``c`` or ``b``, ``mode`` the permission bits."""

    path: str
    type: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class PathFact:
    """A path of the host that is mounted or copied for a step."""

    path: str
    directory: bool


@dataclass(frozen=True)
class TextFile:
    """A file of the host that planning reads. ``error`` says why it can't be read; ``text`` is empty then."""

    path: str
    text: str
    error: str = ""


@dataclass(frozen=True)
class HostFacts:
    """The host as the pipeline sees it.

    ``cdi_specs`` are in the order of their directories, of which the last counts most; ``hooks`` likewise.
    ``default_mounts`` are the lines of mounts.conf, and ``paths`` has those of their sources that can be copied.
    ``has_rro``: the OCI runtime that will run the step knows the mount option ``rro``, read-only all the way down
    (runtime-spec, config.md, "Linux mount options"). ``address`` is this host's own on its way out;
    ``resolv_conf_upstream`` is what a resolver on its loopback asks; ``cni`` are network configurations in order;
    ``thermal_cpus`` are the numbers of the CPUs that have ``thermal_throttle`` below /sys. ``has_setgroups``: the user
    namespace that we are in has not given setgroups(2) up.
    ``no_tun``, ``no_userns`` and ``no_cgroups`` are the reasons why this process can't make tap devices, become root of
    a user namespace or make control groups; empty where it can, or where it does not matter.
    """

    uid: int = 0
    gid: int = 0
    architecture: str = "x86_64"
    kernel: str = "6.1"
    cgroup: str = "v2"
    capabilities: tuple[str, ...] = ()
    runtimes: tuple[RuntimeFact, ...] = ()
    rlimits: tuple[Rlimit, ...] = ()
    uid_map: tuple[tuple[int, ...], ...] = ALL_IDS
    gid_map: tuple[tuple[int, ...], ...] = ALL_IDS
    hosts: str = ""
    hosts_mode: int = 0o644
    resolv_conf: str = ""
    resolv_conf_upstream: str = ""
    address: str = ""
    has_dev_shm: bool = True
    has_dev_mqueue: bool = True
    has_sys: bool = True
    has_sys_cgroup: bool = True
    has_ping_group_range: bool = True
    has_slirp4netns: bool = False
    has_pasta: bool = False
    selinux: bool = False
    apparmor: bool = False
    groups: tuple[int, ...] = ()
    subuids: tuple[tuple[int, ...], ...] = ()
    subgids: tuple[tuple[int, ...], ...] = ()
    paths: tuple[PathFact, ...] = ()
    devices: tuple[DeviceFact, ...] = ()
    cdi_specs: tuple[TextFile, ...] = ()
    hooks: tuple[TextFile, ...] = ()
    cni: tuple[TextFile, ...] = ()
    default_mounts: tuple[str, ...] = ()
    has_libseccomp: bool = True
    has_mounts: bool = True
    has_rro: bool = False
    stdio_is_terminal: bool = False
    proxy: tuple[str, ...] = ()
    thermal_cpus: tuple[int, ...] = ()
    has_setgroups: bool = True
    no_tun: str = ""
    no_userns: str = ""
    no_cgroups: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that :meth:`from_json` reads."""
        out: dict[str, Any] = encode(self)
        return out

    @classmethod
    def from_json(cls, data: Any) -> HostFacts:
        """Read the JSON object of :meth:`to_json`. Raises RequestError for anything else."""
        facts = decode(cls, data, "host facts")
        for name, length in (("uid_map", 3), ("gid_map", 3), ("subuids", 2), ("subgids", 2)):
            for row in getattr(facts, name):
                if len(row) != length or min(row) < 0 or max(row) >= 1 << 32:
                    raise RequestError(f"host facts.{name}: {length} numbers below 2**32 are wanted in a row")
        return facts

    @classmethod
    def from_file(cls, path: str) -> HostFacts:
        """Read the facts from a JSON file. Raises OSError, and RequestError for a file that has none."""
        data = documents.read(path, documents.LARGEST)
        try:
            return cls.from_json(documents.parse(data))
        except ValueError as error:
            raise RequestError(str(error)) from None

    @property
    def is_machine_root(self) -> bool:
        """Whether the builder is root of the machine, and not only of a user namespace with a part of its IDs."""
        return self.uid == 0 and self.uid_map in ((), ALL_IDS)

    @property
    def is_ipv6_only(self) -> bool:
        """Whether nothing but IPv6 leads out of this host: its ``address`` is of IPv4 where that does."""
        return ":" in self.address

    def mapped(self, kind: str) -> tuple[tuple[int, ...], ...]:
        """Return the map of the user namespace that steps are run from.

        For an ordinary user it is the one that :func:`run_step.enter_user_namespace` will make. ``kind`` is ``uid``
        or ``gid``.
        """
        own, ranges, rows = (
            (self.uid, self.subuids, self.uid_map)
            if kind == "uid"
            else (self.gid, self.subgids, self.gid_map)
        )
        if self.uid == 0:
            return rows
        return id_maps.maps(own, ranges if self.subuids and self.subgids else ())

    def has_id(self, kind: str, number: int) -> bool:
        """Whether a user (``uid``) or group (``gid``) exists in that namespace."""
        rows = self.mapped(kind)
        return not rows or any(row[0] <= number < row[0] + row[2] for row in rows)

    @property
    def may_set_groups(self) -> bool:
        """Whether steps may be given supplementary groups.

        In the namespace of an ordinary user they may only where newgidmap(1) writes its map.
        """
        return self.has_setgroups if self.uid == 0 else bool(self.subuids and self.subgids)

    def inside(self, kind: str, numbers: tuple[int, ...]) -> list[int]:
        """Return our own ``uid`` or ``gid`` numbers as the user namespace of the steps has them.

        A number that the namespace lacks stays as it is.
        """
        if self.uid == 0:
            return list(numbers)
        found = []
        for number in numbers:
            rows = (row for row in self.mapped(kind) if row[1] <= number < row[1] + row[2])
            found.append(next((row[0] + number - row[1] for row in rows), number))
        return found

    @property
    def working_runtime(self) -> RuntimeFact | None:
        """The first runtime that works here."""
        return next((item for item in self.runtimes if item.works), None)
