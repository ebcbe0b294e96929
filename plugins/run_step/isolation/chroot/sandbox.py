"""Become the step: from a freshly forked child to the command, by the OCI spec that the plan holds.

On the hot path of every chroot RUN: imports ctypes wrappers and nothing heavy, runs in a single-threaded
process. It decides nothing; what it can't honour was refused when the plan was made. It is no general OCI
runtime: no hooks, no cgroups.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from typing import Any

from ...linux import mount as m
from ...linux import process as p
from ...linux.openat2 import open_in_root
from ...linux.seccomp import install

_CLONE = {
    "uts": m.CLONE_NEWUTS,
    "ipc": m.CLONE_NEWIPC,
    "network": m.CLONE_NEWNET,
    "cgroup": m.CLONE_NEWCGROUP,
}
_FLAGS = {
    "ro": m.MS_RDONLY,
    "nosuid": m.MS_NOSUID,
    "nodev": m.MS_NODEV,
    "noexec": m.MS_NOEXEC,
    "noatime": m.MS_NOATIME,
    "relatime": m.MS_RELATIME,
    "strictatime": m.MS_STRICTATIME,
}
_CLEARED = {"rw", "suid", "dev", "exec"}
_PROPAGATION = {
    "private": m.MS_PRIVATE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED | m.MS_REC,
}
_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
)
"""The default devices and links of the OCI specification (config-linux.md, "Default Devices")."""

_RLIMIT_LOCKS = 10  # asm-generic/resource.h; Python has all the others


class SetupError(Exception):
    """The sandbox could not be set up; the text is for the user."""


def enter(spec: dict[str, Any], rootfs: str) -> None:
    """Set up everything of ``spec`` but the command. Called in the child that is to become the step."""
    namespaces = {item["type"]: item.get("path", "") for item in spec["linux"]["namespaces"]}
    os.setsid()
    for kind, path in namespaces.items():
        if path:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            m.setns(fd, _CLONE.get(kind, 0))
            os.close(fd)
    flags = m.CLONE_NEWNS
    for kind, path in namespaces.items():
        if not path:
            flags |= _CLONE.get(kind, 0)
    m.unshare(flags)
    if spec.get("hostname") and namespaces.get("uts") == "":
        p.sethostname(spec["hostname"])
    if namespaces.get("network") == "":
        p.loopback_up()
    m.mount("", "/", flags=m.MS_PRIVATE | m.MS_REC)
    m.mount(rootfs, rootfs, flags=m.MS_BIND | m.MS_REC)
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _no_devices(root)
    for item in spec["mounts"]:
        try:
            _mount(root, item)
        except OSError as error:
            raise SetupError(f"mounting {item['type']} on {item['destination']}: {error}") from error
    _extra_devices(root, spec["linux"].get("devices", ()))
    _mask(root, spec["linux"].get("maskedPaths", ()), spec["linux"].get("readonlyPaths", ()))
    os.fchdir(root)
    os.close(root)
    m.pivot_root(".", ".")
    m.umount(".", m.MNT_DETACH)
    os.chdir("/")


def become(spec: dict[str, Any], seccomp: bytes = b"") -> None:
    """Limits, identity and privileges, then the command. Returns only by an exception."""
    process = spec["process"]
    if "oomScoreAdj" in process:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write(str(process["oomScoreAdj"]))
    for limit in process.get("rlimits", ()):
        number = getattr(resource, limit["type"], _RLIMIT_LOCKS)
        values = tuple(-1 if v >= (1 << 63) else v for v in (limit["soft"], limit["hard"]))
        resource.setrlimit(number, (values[0], values[1]))
    try:
        p.join_session_keyring()
    except OSError:
        pass  # the builder's keys stay in sight only where the kernel or a filter has no keyrings
    os.umask(process["user"].get("umask", 0o022))
    if seccomp and not process.get("noNewPrivileges"):
        install(seccomp)  # needs a privilege that the next lines give away
    _identity(process)
    try:
        os.chdir(process["cwd"])
    except OSError as error:
        raise SetupError(f"working directory {process['cwd']}: {error.strerror}") from None
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if seccomp and process.get("noNewPrivileges"):
        install(seccomp)
    args = process["args"]
    if "/" not in args[0]:
        raise SetupError(f"exec {args[0]!r}: not found on PATH")
    env = dict(entry.split("=", 1) for entry in process["env"])
    p.prctl(p.PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execve(args[0], args, env)
    except OSError as error:
        raise SetupError(f"exec {args[0]!r}: {error.strerror}") from None


def _identity(process: dict[str, Any]) -> None:
    user = process["user"]
    sets = {
        kind: {p.capability_number(name) for name in names}
        for kind, names in process.get("capabilities", {}).items()
    }
    p.drop_bounding(sets.get("bounding", set()))
    p.prctl(p.PR_SET_KEEPCAPS, 1)
    os.setgroups(user.get("additionalGids", []))
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])
    p.capset(sets.get("effective", set()), sets.get("permitted", set()), sets.get("inheritable", set()))
    p.raise_ambient(sets.get("ambient", set()))
    if process.get("noNewPrivileges"):
        p.prctl(p.PR_SET_NO_NEW_PRIVS, 1)


def _proc(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _target(root: int, path: str, directory: bool) -> int:
    """A descriptor of the place to mount on; what lies in an earlier mount may have to be made."""
    try:
        return open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        head, name = os.path.split(path)
        parent = _target(root, head, True)
        try:
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(
                    os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644, dir_fd=parent)
                )
        finally:
            os.close(parent)
        return open_in_root(root, path, os.O_PATH)


def _mount(root: int, item: dict[str, Any]) -> None:
    if _is_root(root, item["destination"]):
        # What is mounted there would not be seen through ``root``, and the image itself be written to.
        raise SetupError(f"{item['destination']} in the image is a link to its root directory")
    flags, propagation, data = 0, 0, []
    for option in item["options"]:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option not in _CLEARED and option not in ("bind", "rbind"):
            data.append(option)
    if item["type"] == "bind":
        directory = stat.S_ISDIR(os.stat(item["source"]).st_mode)
        fd = _target(root, item["destination"], directory)
        if directory and "dev" not in item["options"] and not (item["source"] + "/").startswith("/dev/"):
            flags |= m.MS_NODEV
        recursive = m.MS_REC if "rbind" in item["options"] else 0
        m.mount(item["source"], _proc(fd), flags=m.MS_BIND | recursive)
        os.close(fd)
        fd = open_in_root(root, item["destination"], os.O_PATH)
        if flags:
            m.mount("", _proc(fd), flags=m.MS_BIND | m.MS_REMOUNT | flags | _locked(fd))
        if recursive and flags & m.MS_RDONLY:
            # A remount is not recursive: what is mounted below /sys, the cgroups for one, would stay writable.
            _read_only_below(fd)
    else:
        if (
            item["type"] in ("overlay", "tmpfs")
            and "dev" not in item["options"]
            and item["destination"] != "/dev"
        ):
            flags |= m.MS_NODEV
        fd = _target(root, item["destination"], True)
        m.mount(item["source"], _proc(fd), item["type"], flags, ",".join(data))
        os.close(fd)
        fd = open_in_root(root, item["destination"], os.O_PATH)
    if propagation:
        m.mount("", _proc(fd), flags=propagation)
    if item["destination"] == "/dev" and item["type"] == "tmpfs":
        _devices(fd)
    os.close(fd)


def _is_root(root: int, path: str) -> bool:
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(root))
    finally:
        os.close(fd)


def _read_only_below(fd: int) -> None:
    try:
        m.read_only_tree(fd)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def _locked(fd: int) -> int:
    """The flags that the mount has already: a remount must repeat them or the kernel refuses."""
    have = os.fstatvfs(fd).f_flag
    out = 0
    for bit, flag in ((os.ST_NOSUID, m.MS_NOSUID), (os.ST_NODEV, m.MS_NODEV), (os.ST_NOEXEC, m.MS_NOEXEC)):
        out |= flag if have & bit else 0
    return out


def _no_devices(fd: int) -> None:
    """Device nodes of the mount that ``fd`` is the root of can't be opened: a step may make them (CAP_MKNOD)
    and there is no device cgroup here that would keep it from the host's disks."""
    read_only = m.MS_RDONLY if os.fstatvfs(fd).f_flag & os.ST_RDONLY else 0
    m.mount("", _proc(fd), flags=m.MS_BIND | m.MS_REMOUNT | m.MS_NODEV | read_only | _locked(fd))


def _extra_devices(root: int, devices: Any) -> None:
    """The nodes that the plan adds (row S31), in the step's own /dev or wherever they are asked for."""
    old = os.umask(0)
    for item in devices:
        head, name = os.path.split(item["path"])
        parent = _target(root, head, True)
        directory = os.open(_proc(parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(parent)
        kind = stat.S_IFCHR if item["type"] in ("c", "u") else stat.S_IFBLK
        try:
            os.mknod(
                name,
                kind | item.get("fileMode", 0o666),
                os.makedev(item["major"], item["minor"]),
                dir_fd=directory,
            )
            os.chown(name, item.get("uid", 0), item.get("gid", 0), dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            pass
        finally:
            os.close(directory)
    os.umask(old)


def _devices(dev: int) -> None:
    directory = os.open(_proc(dev), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    old = os.umask(0)
    for name, major, minor in _DEVICES:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=directory)
        path = f"{_proc(directory)}/{name}"
        m.mount(path, path, flags=m.MS_BIND)  # a mount of its own, which keeps its devices
    for name, target in _LINKS:
        os.symlink(target, name, dir_fd=directory)
    os.umask(old)
    os.close(directory)
    _no_devices(dev)


def _mask(root: int, masked: Any, read_only: Any) -> None:
    for path in read_only:
        try:
            fd = open_in_root(root, path, os.O_PATH)
        except OSError:
            continue  # this kernel has no such path
        m.mount(_proc(fd), _proc(fd), flags=m.MS_BIND | m.MS_REC)
        os.close(fd)
        fd = open_in_root(root, path, os.O_PATH)
        m.mount("", _proc(fd), flags=m.MS_BIND | m.MS_REMOUNT | m.MS_RDONLY | _locked(fd))
        os.close(fd)
    for path in masked:
        try:
            fd = open_in_root(root, path, os.O_PATH)
        except OSError:
            continue
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            m.mount("tmpfs", _proc(fd), "tmpfs", m.MS_RDONLY, "size=0")
        else:
            null = open_in_root(root, "/dev/null", os.O_PATH)
            m.mount(_proc(null), _proc(fd), flags=m.MS_BIND)
            os.close(null)
        os.close(fd)
