"""Everything that planning may know of the host, as plain data.

Probed once for a build, replaced by a recorded file in tests and by ``--host-facts``, so that a plan is the
same on every machine that reads the same facts. Planning reads nothing else of the host.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

from . import documents
from .codec import decode, encode
from .errors import RequestError
from .linux.process import effective
from .linux.seccomp_filter import available
from .rootless import ALL_IDS, is_machine_root, sub_ids
from .rootless import maps as rootless_map

PROXY_VARIABLES = (
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "ftp_proxy",
    "FTP_PROXY",
    "no_proxy",
    "NO_PROXY",
)


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
    """A file of the host that planning reads. ``error`` says why it can't be read, and then there is no text."""

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
    ``no_tun``, ``no_userns`` and ``no_cgroups`` say what keeps this process from making tap devices, from becoming root
    of a user namespace and from making control groups; they are empty where nothing does, or nobody needs to know.
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
        """The JSON object that :meth:`from_json` reads."""
        out: dict[str, Any] = encode(self)
        return out

    @classmethod
    def from_json(cls, data: Any) -> HostFacts:
        """Raises RequestError for anything that is no host facts object."""
        facts = decode(cls, data, "host facts")
        for name, length in (("uid_map", 3), ("gid_map", 3), ("subuids", 2), ("subgids", 2)):
            for row in getattr(facts, name):
                if len(row) != length or min(row) < 0 or max(row) >= 1 << 32:
                    raise RequestError(f"host facts.{name}: {length} numbers below 2**32 are wanted in a row")
        return facts

    @classmethod
    def from_file(cls, path: str) -> HostFacts:
        """The facts that a file has as JSON. Raises OSError, and RequestError for a file that is none."""
        data = documents.read(path, documents.LARGEST)
        try:
            return cls.from_json(documents.parse(data))
        except ValueError as error:
            raise RequestError(str(error)) from None

    @property
    def is_machine_root(self) -> bool:
        """Root of the machine, and not only of a user namespace with part of its IDs."""
        return self.uid == 0 and self.uid_map in ((), ALL_IDS)

    @property
    def is_ipv6_only(self) -> bool:
        """Whether nothing but IPv6 leads out of this host: its ``address`` is of IPv4 where that does."""
        return ":" in self.address

    def mapped(self, kind: str) -> tuple[tuple[int, ...], ...]:
        """The map of the user namespace that steps are run from: of an ordinary user the one that
        :func:`run_step.enter_user_namespace` will make. ``kind`` is ``uid`` or ``gid``."""
        own, ranges, rows = (
            (self.uid, self.subuids, self.uid_map)
            if kind == "uid"
            else (self.gid, self.subgids, self.gid_map)
        )
        if self.uid == 0:
            return rows
        return rootless_map(own, ranges if self.subuids and self.subgids else ())

    def has_id(self, kind: str, number: int) -> bool:
        """Whether a user (``uid``) or group (``gid``) exists in that namespace."""
        rows = self.mapped(kind)
        return not rows or any(row[0] <= number < row[0] + row[2] for row in rows)

    @property
    def may_set_groups(self) -> bool:
        """Whether steps may be given supplementary groups: in the namespace that an ordinary user will be root of, only
        where newgidmap(1) writes its map."""
        return self.has_setgroups if self.uid == 0 else bool(self.subuids and self.subgids)

    def inside(self, kind: str, numbers: tuple[int, ...]) -> list[int]:
        """Our own ``uid`` or ``gid`` numbers as the user namespace that steps are run from has them; one that it lacks
        stays, and is none that it has."""
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


def _read(path: str) -> str:
    try:
        return documents.read(path, documents.LARGEST).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _cgroup_mode() -> str:
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "v2"
    if os.path.isdir("/sys/fs/cgroup/unified"):
        return "hybrid"
    return "v1" if os.path.isdir("/sys/fs/cgroup/memory") else "none"


def _rlimits() -> tuple[Rlimit, ...]:
    import resource

    names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE")
    return tuple(Rlimit(name, *resource.getrlimit(getattr(resource, name))) for name in names)


def _id_map(kind: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, line.split())) for line in _read(f"/proc/self/{kind}_map").splitlines())


def which(name: str) -> str | None:
    """The path of a helper program on PATH, or None."""
    for place in os.environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(place or ".", name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def _can_mount() -> bool:
    """Whether a mount namespace can be made and mounted in; tried in a thread, to which alone it happens."""
    import threading

    from .linux import mount as m

    found = []

    def attempt() -> None:
        try:
            m.unshare(m.CLONE_NEWNS)
            m.mount("", "/", flags=m.MS_PRIVATE | m.MS_REC)
            found.append(True)
        except OSError:
            pass  # no privilege, or a filter that forbids it

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(found)


def _why_no_cgroups() -> str:
    """Why no control group can be made, as far as permissions tell; the kernel may still refuse one."""
    from .isolation.cgroup import layout_of

    try:
        groups = {
            path
            for point, own in layout_of().values()
            for path in (own, os.path.dirname(own))
            if path >= point
        }
    except OSError:
        groups = set()
    if not groups:
        return "no cgroup filesystem is mounted"
    if any(os.access(path, os.W_OK) for path in groups):
        return ""
    return "the cgroup filesystem can't be written to here"


MOUNTS_CONF = ("/etc/containers/mounts.conf", "/usr/share/containers/mounts.conf")
"""Where the machine's default mounts are (containers-mounts.conf(5)); the first file that is there counts."""


def _default_mounts(files: tuple[str, ...] = MOUNTS_CONF) -> tuple[str, ...]:
    """The lines of mounts.conf that say something; an ordinary user's own file counts before ``files``."""
    home = os.path.expanduser("~/.config/containers/mounts.conf")
    for path in files if os.geteuid() == 0 and is_machine_root() else (home, *files):
        if os.path.exists(path):
            lines = (line.split("#", 1)[0].strip() for line in _read(path).splitlines())
            return tuple(line for line in lines if line)
    return ()


def _address() -> str:
    """Of the device that leads out: connecting a datagram socket asks the routes, and sends nothing."""
    for family, target in ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe_socket:
                probe_socket.connect((target, 9))
                return str(probe_socket.getsockname()[0])
        except OSError:
            continue
    return ""


def _thermal_cpus(directory: str = "/sys/devices/system/cpu") -> tuple[int, ...]:
    """Of the CPUs that are there, online or not."""
    try:
        names = os.listdir(directory)
    except OSError:
        return ()
    numbers = (int(name[3:]) for name in names if name.startswith("cpu") and name[3:].isdecimal())
    there = (number for number in numbers if os.path.isdir(f"{directory}/cpu{number}/thermal_throttle"))
    return tuple(sorted(there))


def probe(*, runtimes: bool = True, work_dir: str | None = None) -> HostFacts:
    """Look at this host. ``runtimes=False`` leaves out the only slow part, running each OCI runtime once, for which
    something is made in ``work_dir``."""
    found: tuple[RuntimeFact, ...] = ()
    if runtimes:
        from .isolation.oci import probe_runtimes

        found = probe_runtimes(work_dir=work_dir)
    from .network.user_mode import why_no_tun

    helpers = {name: which(name) is not None for name in ("slirp4netns", "pasta")}
    uname = os.uname()
    return HostFacts(
        uid=os.geteuid(),
        gid=os.getegid(),
        architecture=uname.machine,
        kernel=uname.release,
        cgroup=_cgroup_mode(),
        capabilities=effective(),
        runtimes=found,
        rlimits=_rlimits(),
        uid_map=_id_map("uid"),
        gid_map=_id_map("gid"),
        hosts=_read("/etc/hosts"),
        hosts_mode=os.stat("/etc/hosts").st_mode & 0o777 if os.path.exists("/etc/hosts") else 0o644,
        resolv_conf=_read("/etc/resolv.conf"),
        resolv_conf_upstream=_read("/run/systemd/resolve/resolv.conf"),
        address=_address(),
        has_dev_shm=os.path.isdir("/dev/shm"),
        has_dev_mqueue=os.path.isdir("/dev/mqueue"),
        has_sys=os.path.isdir("/sys"),
        has_sys_cgroup=os.path.exists("/sys/fs/cgroup"),
        has_ping_group_range=os.path.exists("/proc/sys/net/ipv4/ping_group_range"),
        has_slirp4netns=helpers["slirp4netns"],
        has_pasta=helpers["pasta"],
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        apparmor=_read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        groups=tuple(sorted(os.getgroups())),
        subuids=sub_ids("uid"),
        subgids=sub_ids("gid"),
        default_mounts=_default_mounts(),
        has_libseccomp=available(),
        has_mounts=os.geteuid() != 0 or _can_mount(),
        stdio_is_terminal=all(os.isatty(fd) for fd in (0, 1, 2)),
        proxy=tuple(f"{name}={os.environ[name]}" for name in PROXY_VARIABLES if os.environ.get(name)),
        thermal_cpus=_thermal_cpus(),
        has_setgroups=_read("/proc/self/setgroups").strip() != "deny",
        no_tun=why_no_tun() if any(helpers.values()) else "",
        no_cgroups=_why_no_cgroups(),
    )
