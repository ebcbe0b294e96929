"""Become the step: from a freshly forked child to the command, by the OCI spec of the plan.

On the hot path of every chroot RUN: imports ctypes wrappers and nothing heavy, and runs in a single-threaded
process. It makes no decisions: a spec that it can't honour was refused when the plan was made. It is not a
general OCI runtime, and has no hooks. :mod:`.launch` forks the child, :mod:`.mounter` makes the mounts.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable
from typing import Any

from ...linux import mount as m
from ...linux import process as p
from ...linux import pty, userns
from ...linux.seccomp_install import install
from .mounter import Mounter, MountError, no_devices, restrict, split

_CLONE = {
    "uts": m.CLONE_NEWUTS,
    "ipc": m.CLONE_NEWIPC,
    "network": m.CLONE_NEWNET,
    "cgroup": m.CLONE_NEWCGROUP,
}
_RLIMIT_LOCKS = 10  # asm-generic/resource.h; Python has all the others
_STAGING = ("/tmp", "/mnt", "/run", "/var", "/srv")
"""Directories on which a root filesystem can be mounted for a user namespace that can't reach its path, in a
mount namespace that no other process sees.
"""


class SetupError(Exception):
    """The sandbox could not be set up; the text is for the user."""


class Sandbox:
    """The environment of one step, set up in the order of the methods.

    ``spec`` is the plan's spec with real paths, ``rootfs`` the path of the root filesystem.
    """

    def __init__(self, spec: dict[str, Any], rootfs: str) -> None:
        self.spec = spec
        self.rootfs = rootfs
        self.linux: dict[str, Any] = spec["linux"]
        self.namespaces = {item["type"]: item.get("path", "") for item in self.linux["namespaces"]}
        self.warnings: list[str] = []
        self._label_fds: list[tuple[int, str]] = []

    @property
    def maps_ids(self) -> bool:
        """Whether the step has its own user namespace, which :meth:`enter_user_namespace` makes or joins."""
        return "user" in self.namespaces

    @property
    def _new(self) -> int:
        return sum(_CLONE.get(kind, 0) for kind, path in self.namespaces.items() if not path)

    def join(self) -> None:
        """Join the existing namespaces that the plan names, except a user namespace."""
        for kind, path in self.namespaces.items():
            if path and kind != "user":
                self._join(path, _CLONE.get(kind, 0))

    @staticmethod
    def _join(path: str, kind: int) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SetupError(f"the namespace {path} can't be joined: {error.strerror}") from None
        try:
            m.setns(fd, kind)
        except OSError as error:
            raise SetupError(
                f"the namespace {path} can't be joined: {os.strerror(error.errno or 0)}"
            ) from None
        finally:
            os.close(fd)

    def enter_user_namespace(self) -> None:
        """Make the mounts that need the builder's privileges, then become root of the step's user namespace.

        All new namespaces of the plan are made there and belong to it. The new PID namespace is that of the
        next child. Raises SetupError.
        """
        uids, gids = self._rows("uidMappings"), self._rows("gidMappings")
        path = self.namespaces["user"]
        owner = (self._outside(uids), self._outside(gids))
        outer, _ = split(self.spec["mounts"])
        m.unshare(m.CLONE_NEWNS)
        m.mount("", "/", flags=m.MS_SLAVE | m.MS_REC)  # as runc does: see enter()
        root = self._bind_root(self.rootfs)
        mounter = Mounter(root, owner, self.linux.get("mountLabel", ""))
        mounter.mount_all(outer)
        mounter.add_devices(self.linux.get("devices", ()))
        os.close(root)
        staging = next((name for name in _STAGING if os.path.isdir(name)), "/")
        m.mount(self.rootfs, staging, flags=m.MS_BIND | m.MS_REC)
        self.rootfs = staging
        self._before_identity()
        flags = self._new | (m.CLONE_NEWPID if self.namespaces.get("pid") == "" else 0)
        if path:
            self._join(path, m.CLONE_NEWUSER)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            p.prctl(p.PR_SET_DUMPABLE, 1)
        else:
            try:
                userns.enter(uids, gids)
            except OSError as error:
                raise SetupError(f"the user namespace can't be made: {error.strerror}") from None
        try:
            os.setgroups([])
        except PermissionError:
            pass  # setgroups(2) is disabled in this namespace, and no other groups are mapped in it
        m.unshare(flags)

    def _rows(self, kind: str) -> list[tuple[int, int, int]]:
        return [(item["containerID"], item["hostID"], item["size"]) for item in self.linux.get(kind, ())]

    @staticmethod
    def _outside(rows: list[tuple[int, int, int]]) -> int:
        return next((outside - inside for inside, outside, size in rows if inside <= 0 < inside + size), 0)

    def enter(self, connected: Callable[[], None] | None = None) -> None:
        """Set up everything except the identity and the command: the last step before :meth:`become`.

        ``connected`` waits until the network namespace, which exists when it is called, has been connected.
        """
        os.setsid()
        if "mount" not in self.namespaces:
            # This machine allows no mounts; the plan has taken that into account (see pipeline/bare.py).
            self._before_identity()
            self._open_labels()
            os.chroot(self.rootfs)
            os.chdir("/")
            return
        if not self.maps_ids:
            self._before_identity()
            m.unshare(m.CLONE_NEWNS | self._new)
        else:
            m.unshare(m.CLONE_NEWNS)
        self._name()
        if connected is not None:
            connected()
        # As runc does: no mount gets out, and a volume may ask for later mounts of the host (row S64).
        m.mount("", "/", flags=m.MS_SLAVE | m.MS_REC)
        root = self._bind_root(self.rootfs)
        mounter = Mounter(root, label=self.linux.get("mountLabel", ""))
        mounter.mount_all(split(self.spec["mounts"])[1] if self.maps_ids else self.spec["mounts"])
        if not self.maps_ids:
            mounter.add_devices(self.linux.get("devices", ()))
        mounter.mask(self.linux.get("maskedPaths", ()), self.linux.get("readonlyPaths", ()))
        self.warnings += mounter.warnings
        self._open_labels()
        if self.spec["root"].get("readonly"):
            restrict(root, m.MS_RDONLY)
        os.fchdir(root)
        os.close(root)
        m.pivot_root(".", ".")
        m.umount(".", m.MNT_DETACH)
        os.chdir("/")

    def _name(self) -> None:
        if self.namespaces.get("uts") == "":
            if self.spec.get("hostname"):
                p.sethostname(self.spec["hostname"])
            if self.spec.get("domainname"):
                p.setdomainname(self.spec["domainname"])
        if self.namespaces.get("network") == "":
            p.loopback_up()

    @staticmethod
    def _bind_root(path: str) -> int:
        m.mount(path, path, flags=m.MS_BIND | m.MS_REC)
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        m.mount("", path, flags=m.MS_PRIVATE)
        no_devices(root)
        return root

    def _before_identity(self) -> None:
        """Set what needs the builder's own privileges: a lower OOM score, and hard limits above the builder's."""
        process = self.spec["process"]
        if "oomScoreAdj" in process:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
                stream.write(str(process["oomScoreAdj"]))
        for limit in process.get("rlimits", ()):
            number, _, hard = _limit(limit)
            now = resource.getrlimit(number)
            if now[1] != -1 and (hard == -1 or hard > now[1]):
                try:
                    resource.setrlimit(number, (now[0], hard))
                except (OSError, ValueError) as error:
                    raise SetupError(
                        f"the limit {limit['type']} can't be raised to {hard}: {error}"
                    ) from None

    def _open_labels(self) -> None:
        """Open the files that take the label of the next exec (proc(5), /proc/PID/attr), while /proc can be reached."""
        process = self.spec["process"]
        wanted: list[tuple[tuple[str, ...], str]] = []
        if process.get("apparmorProfile"):
            wanted.append((("attr/apparmor/exec", "attr/exec"), f"exec {process['apparmorProfile']}"))
        if process.get("selinuxLabel"):
            wanted.append((("attr/exec",), process["selinuxLabel"]))
        for names, text in wanted:
            for name in names:
                try:
                    fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
                except OSError:
                    continue
                self._label_fds.append((fd, text))
                break
            else:
                raise SetupError(f"the label {text!r} can't be set: this kernel has no /proc/self/{names[0]}")

    def open_terminal(self, console: int, columns: int, rows: int) -> None:
        """Give the step a terminal as its standard streams, and send the controlling side through ``console``.

        It is in the step's own /dev/pts, if there is one, and is also the step's /dev/console then. Raises
        SetupError.
        """
        try:
            controller = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            name, peer = pty.unlock(controller)
        except OSError as error:
            raise SetupError(f"no terminal can be opened: {error.strerror}") from None
        pty.set_size(controller, columns, rows)
        if "mount" in self.namespaces:
            os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC, 0o600))
            m.mount(name, "/dev/console", flags=m.MS_BIND)
        with socket.socket(fileno=os.dup(console)) as sender:
            socket.send_fds(sender, [b"t"], [controller])
        os.close(controller)
        pty.make_controlling(peer)
        for number in range(3):
            os.dup2(peer, number, inheritable=True)
        if peer > 2:
            os.close(peer)

    def become(self, seccomp: bytes = b"") -> None:
        """Set limits, identity and privileges, then execute the command. Returns only by an exception."""
        process = self.spec["process"]
        for number in range(3):
            self._own_stream(number)
        try:
            p.join_session_keyring()
        except OSError:
            pass  # without keyrings in the kernel, or behind a filter, there are no keys to see
        os.umask(process["user"].get("umask", 0o022))
        args = process["args"]
        env = dict(entry.split("=", 1) for entry in process["env"])
        try:
            for limit in process.get("rlimits", ()):
                number, soft, hard = _limit(limit)
                resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            raise SetupError(f"the limit {limit['type']} can't be set: {error}") from None
        flags = self.linux.get("seccomp", {}).get("flags") or ()
        if seccomp and not process.get("noNewPrivileges"):
            install(seccomp, flags)  # needs a privilege that the next lines give up
        self._make_cwd(process["cwd"])
        # On FUSE and NFS, root may have access that the step's user has not, and the other way round.
        wrong = _enter_cwd(process["cwd"])
        _identity(process)
        if wrong:
            wrong = _enter_cwd(process["cwd"])
        if wrong:
            raise SetupError(f"working directory {process['cwd']}: {wrong}")
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if seccomp and process.get("noNewPrivileges"):
            install(seccomp, flags)
        if "/" not in args[0]:
            args[0] = _find(args[0], env.get("PATH", ""))
        for fd, text in self._label_fds:
            try:
                os.write(fd, text.encode())
            except OSError as error:
                raise SetupError(f"the label {text!r} is refused: {error.strerror}") from None
        p.prctl(p.PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            os.execve(args[0], args, env)
        except OSError as error:
            raise SetupError(f"exec {args[0]!r}: {error.strerror}") from None

    @staticmethod
    def _make_cwd(path: str) -> None:
        """Make the working directory if a mount covers it (see pipeline/cwd.py), as runtimes do."""
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        except OSError:
            pass  # the failure to enter it is reported

    def _own_stream(self, number: int) -> None:
        """Let a user other than root open /dev/stdout too, as under the OCI runtimes."""
        status = os.fstat(number)
        if _is_null(status):
            _own_null(number)
            return
        uid = self.spec["process"]["user"]["uid"]
        if status.st_uid != uid:
            try:
                os.fchown(number, uid, -1)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS, errno.ENOSYS):
                    raise


def _enter_cwd(path: str) -> str:
    """Enter the working directory; return the empty string, or why that failed.

    A directory outside of our root, which can be reached by /proc through another process's root, is refused.
    """
    try:
        os.chdir(path)
    except OSError as error:
        return error.strerror or str(error)
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False  # the C library may report it in this way
    if not inside:
        os.chdir("/")
        return "it is outside of the root filesystem"
    return ""


def _find(name: str, path: str) -> str:
    """Find a program by its name, as execvp(3) does; the plan leaves that to us if the program may be in a mount."""
    for directory in path.split(":"):
        place = os.path.join(directory or ".", name)
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    raise SetupError(f"exec {name!r}: not found on PATH")


def _own_null(number: int) -> None:
    """Replace the builder's /dev/null by the step's own, as the OCI runtimes do."""
    try:
        fd = os.open("/dev/null", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return  # there is none if nothing can be mounted
    if _is_null(os.fstat(fd)):
        os.set_blocking(fd, True)
        os.dup2(fd, number, inheritable=True)
    os.close(fd)


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def _limit(limit: dict[str, Any]) -> tuple[int, int, int]:
    number = getattr(resource, limit["type"], _RLIMIT_LOCKS)
    soft, hard = (-1 if value >= (1 << 63) else value for value in (limit["soft"], limit["hard"]))
    return number, soft, hard


def _identity(process: dict[str, Any]) -> None:
    user = process["user"]
    sets = {
        kind: {p.capability_number(name) for name in names}
        for kind, names in process.get("capabilities", {}).items()
    }
    p.drop_bounding(sets.get("bounding", set()))
    p.prctl(p.PR_SET_KEEPCAPS, 1)
    groups = user.get("additionalGids", [])
    try:
        os.setgroups(groups)
    except PermissionError:
        if groups:
            raise SetupError(
                "additional groups can't be set in a user namespace with a single group"
            ) from None
    try:
        os.setresgid(user["gid"], user["gid"], user["gid"])
        os.setresuid(user["uid"], user["uid"], user["uid"])
    except OSError as error:
        raise SetupError(f"user {user['uid']}:{user['gid']} can't be taken: {error.strerror}") from None
    p.capset(sets.get("effective", set()), sets.get("permitted", set()), sets.get("inheritable", set()))
    p.raise_ambient(sets.get("ambient", set()))
    if process.get("noNewPrivileges"):
        p.prctl(p.PR_SET_NO_NEW_PRIVS, 1)


__all__ = ["MountError", "Sandbox", "SetupError"]
