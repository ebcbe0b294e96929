"""Look at this machine: the facts that planning asks for (:mod:`run_step.host`), found by reading and by trying."""

from __future__ import annotations

import os
import resource
import socket
import threading

from . import documents
from .helper_programs import find_runtime, which
from .host import HostFacts, Rlimit, RuntimeFact
from .isolation.cgroup import layout_of
from .isolation.runtimes import RUNTIMES, try_runtime
from .linux import mount as m
from .linux.id_maps import is_machine_root, sub_ids
from .linux.process import effective
from .linux.seccomp_filter import available
from .network.user_mode import why_no_tun

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
    names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE")
    return tuple(Rlimit(name, *resource.getrlimit(getattr(resource, name))) for name in names)


def _id_map(kind: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, line.split())) for line in _read(f"/proc/self/{kind}_map").splitlines())


def _can_mount() -> bool:
    """Whether a mount namespace can be made and mounted in; tried in a thread, so that only the thread moves."""
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
    """Return why no control group can be made, as far as permissions tell; the kernel may still refuse one."""
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
    """Return the lines of mounts.conf that are not empty; an ordinary user's own file comes before ``files``."""
    home = os.path.expanduser("~/.config/containers/mounts.conf")
    for path in files if os.geteuid() == 0 and is_machine_root() else (home, *files):
        if os.path.exists(path):
            lines = (line.split("#", 1)[0].strip() for line in _read(path).splitlines())
            return tuple(line for line in lines if line)
    return ()


def _address() -> str:
    """Return our address on the way out: connecting a datagram socket asks the routes and sends nothing."""
    for family, target in ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe_socket:
                probe_socket.connect((target, 9))
                return str(probe_socket.getsockname()[0])
        except OSError:
            continue
    return ""


def _thermal_cpus(directory: str = "/sys/devices/system/cpu") -> tuple[int, ...]:
    """Return the numbers of the CPUs that have ``thermal_throttle``, online or not."""
    try:
        names = os.listdir(directory)
    except OSError:
        return ()
    numbers = (int(name[3:]) for name in names if name.startswith("cpu") and name[3:].isdecimal())
    there = (number for number in numbers if os.path.isdir(f"{directory}/cpu{number}/thermal_throttle"))
    return tuple(sorted(there))


def probe_runtimes(*, every: bool = False, work_dir: str | None = None) -> tuple[RuntimeFact, ...]:
    """Try each runtime on this machine with a container that ends at once; return the results.

    The search ends with the first that works, unless ``every`` one is wanted. ``work_dir`` is the directory
    in which the bundle for that is made.
    """
    found = []
    for name in RUNTIMES:
        path = find_runtime(name)
        if path is not None:
            why = try_runtime(path, work_dir)
            found.append(RuntimeFact(name, path, why == "", why))
            if not why and not every:
                break
    return tuple(found)


def probe(*, runtimes: bool = True, work_dir: str | None = None) -> HostFacts:
    """Return the facts of this host.

    ``runtimes=False`` leaves out the only slow part, running each OCI runtime once, for which something is made in
    ``work_dir``.
    """
    found: tuple[RuntimeFact, ...] = ()
    if runtimes:
        found = probe_runtimes(work_dir=work_dir)

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
