"""Control groups: the limits of a step and its resource use (rows X38, S30), on v1, v2 and hybrid.

For ``chroot`` a group is made, joined and removed here. For an OCI runtime, the group that the runtime made
is read. The hierarchies are found in /proc/PID/cgroup and /proc/PID/mountinfo (cgroups(7)), never by fixed
paths. If no group can be made, a limit that was asked for is an error, and resource use is measured by
rusage.

On the hot path of every RUN: imports nothing heavy.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import Any

from . import group_notes

UNIFIED = ""
"""The key of the cgroup v2 hierarchy in a layout; the others are names of v1 controllers."""

_MEASURED = {"cpuacct": "cpu", "memory": "memory", "blkio": "io"}
"""The controllers that measure, and their names in cgroup v2."""


class CgroupError(Exception):
    """A limit that was asked for but can't be set; the text is for the user."""


def parse_layout(mountinfo: str, cgroup: str) -> dict[str, tuple[str, str]]:
    """Return, for each controller and :data:`UNIFIED`, the hierarchy's mount point and the process's directory in it.

    ``mountinfo`` and ``cgroup`` are the texts of proc_pid_mountinfo(5) and of /proc/PID/cgroup (cgroups(7)).
    A hierarchy is left out if it is not mounted, or only a part that does not contain the process is.
    """
    own = {}
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            own[name] = path
    layout: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, point = _unescape(fields[3]), _unescape(fields[4])
        for name in [UNIFIED] if kind[0] == "cgroup2" else kind[2].split(","):
            if name not in own or name in layout:
                continue
            path = own[name]
            if root != "/":
                if path != root and not path.startswith(root + "/"):
                    continue
                path = path[len(root) :]
            if "/../" not in path + "/":  # a group above the root of our cgroup namespace can't be reached
                layout[name] = (point, os.path.normpath(point + "/" + path))
    return layout


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def layout_of(pid: int | str = "self") -> dict[str, tuple[str, str]]:
    """Return :func:`parse_layout` for a process, as we see its groups. Raises OSError when the process has gone."""
    return parse_layout(_read("/proc/self/mountinfo"), _read(f"/proc/{pid}/cgroup"))


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def shares_to_weight(shares: int) -> int:
    """Return cgroup v1's cpu.shares (2 to 262144) as cgroup v2's cpu.weight (1 to 10000), as the runtimes map it."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def settings(resources: dict[str, Any], version: int) -> list[tuple[str, str, str, bool]]:
    """Return the files to write for a spec's ``resources``, in order.

    Each is (controller, file, value, whether it may be absent). ``controller`` is the name in the given
    version. A limit of -1 means no limit, and its file may be absent.
    """
    cpu, memory = resources.get("cpu", {}), resources.get("memory", {})
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    pids = resources.get("pids", {}).get("limit", 0)
    out: list[tuple[str, str, str, bool]] = []
    for key in ("cpus", "mems"):
        if cpu.get(key):
            out.append(("cpuset", f"cpuset.{key}", cpu[key], False))
    if version == 1:
        for key, name in (
            ("shares", "cpu.shares"),
            ("period", "cpu.cfs_period_us"),
            ("quota", "cpu.cfs_quota_us"),
        ):
            if cpu.get(key):
                out.append(("cpu", name, str(cpu[key]), False))
        if limit:
            out.append(("memory", "memory.limit_in_bytes", str(limit), limit < 0))
        if swap:
            out.append(("memory", "memory.memsw.limit_in_bytes", str(swap), swap < 0))
    else:
        if cpu.get("shares"):
            out.append(("cpu", "cpu.weight", str(shares_to_weight(cpu["shares"])), False))
        if cpu.get("period") or cpu.get("quota"):
            quota = cpu.get("quota", 0)
            text = f"{quota if quota > 0 else 'max'} {cpu.get('period') or 100000}"
            out.append(("cpu", "cpu.max", text, False))
        if limit:
            out.append(("memory", "memory.max", _v2(limit), limit < 0))
        if swap:
            # Version 1 limits memory and swap together, version 2 limits swap by itself.
            out.append(("memory", "memory.swap.max", _v2(swap - limit if swap > 0 else swap), swap < 0))
    if pids:
        out.append(("pids", "pids.max", "max" if pids < 0 else str(pids), pids < 0))
    return out


def _v2(number: int) -> str:
    return "max" if number < 0 else str(number)


class Group:
    """The directories of one step's group, by controller; all those of version 2 share one directory."""

    def __init__(self, directories: dict[str, str]) -> None:
        self.directories = directories
        self.limited = False
        """Whether a limit is set in the group; the step must not run without it."""
        self.made: list[str] = []
        """The directories that were made only for the step; :meth:`remove` removes them."""
        self.parent = ""

    @classmethod
    def of(cls, pid: int) -> Group:
        """Return the group of ``pid``, which another program made, for reading."""
        try:
            ours, theirs = layout_of(), layout_of(pid)
        except OSError:
            return cls({})
        # A group that contains this process too would count the resource use of the whole build.
        return cls({name: path for name, (_, path) in theirs.items() if ours.get(name, ("", ""))[1] != path})

    @classmethod
    def create(cls, name: str, resources: dict[str, Any], parent: str = "") -> Group:
        """Make a group called ``name`` below ours, or below ``parent`` (absolute: from the root of each hierarchy).

        Raises CgroupError when a limit in ``resources`` can't be set; nothing is left behind then.
        Controllers that only measure are left out if they are not available.
        """
        group = cls({})
        group.parent = parent
        layout = _layout()
        try:
            group._create(layout, name, resources, parent)
        except BaseException:
            group.remove()
            raise
        return group

    def _create(
        self, layout: dict[str, tuple[str, str]], name: str, resources: dict[str, Any], parent: str
    ) -> None:
        limits = {1: settings(resources, 1), 2: settings(resources, 2)}
        self.limited = bool(limits[2])
        wanted = {item[0] for item in limits[1]}
        for controller in sorted({*_MEASURED, *wanted} & layout.keys()):
            point, own = layout[controller]
            try:
                self._make(controller, _base(point, own, parent), name, point)
            except OSError as error:
                self._fail(error, controller, wanted, parent)
        if UNIFIED in layout:
            self._create_unified(layout, name, {item[0] for item in limits[2]}, parent)
        for version in (1, 2):
            for controller, file, value, optional in limits[version]:
                directory = self.directories.get(controller)
                if directory is None or self._version(directory) != version:
                    if version == 2 and not optional and directory is None:
                        self._fail(None, controller, {controller}, parent)
                    continue
                try:
                    _write(os.path.join(directory, file), value)
                except OSError as error:
                    if not optional:
                        raise CgroupError(
                            f"the {controller} limit {file}={value} can't be set: {error.strerror}"
                        ) from None

    def _create_unified(
        self, layout: dict[str, tuple[str, str]], name: str, wanted: set[str], parent: str
    ) -> None:
        """Make the group in the version 2 hierarchy.

        In version 2 a group with processes can't pass controllers on to groups below it (cgroups(7), "no
        internal processes"). If ours can't for this reason, its parent is tried, as the runtimes do.
        """
        point, own = layout[UNIFIED]
        bases = [own] if own == point else [own, os.path.dirname(own)]
        if parent:
            bases = [_base(point, own, parent)]
        needed = {"cpu", "memory", "io", *wanted} - self.directories.keys()
        best: OSError | None = None
        for number, base in enumerate(bases):
            try:
                path = self._make(UNIFIED, base, name, point)
            except OSError as error:
                best = error
                continue
            self._enable(point, base, needed)
            have = set(_read(os.path.join(path, "cgroup.controllers")).split())
            if number + 1 < len(bases) and not needed & have:
                self.made.remove(path)
                del self.directories[UNIFIED]
                os.rmdir(path)
                continue
            for controller in needed & have:
                self.directories[controller] = path
            return
        self._fail(best, "cgroup v2", wanted - self.directories.keys(), parent)

    @staticmethod
    def _enable(point: str, base: str, controllers: set[str]) -> None:
        """Let every group from the root to ``base`` pass the controllers on."""
        places = [base]
        while places[-1] != point and places[-1].startswith(point + "/"):
            places.append(os.path.dirname(places[-1]))
        for place in reversed(places):
            for controller in sorted(controllers):
                try:
                    _write(os.path.join(place, "cgroup.subtree_control"), f"+{controller}")
                except OSError:
                    pass  # a controller that is still missing is reported where it is needed

    @staticmethod
    def _version(directory: str) -> int:
        return 2 if os.path.exists(os.path.join(directory, "cgroup.controllers")) else 1

    @staticmethod
    def _fail(error: OSError | None, controller: str, wanted: set[str], parent: str) -> None:
        """Raise CgroupError if the limit or the parent was asked for; a controller that only measures may fail."""
        why = f": {error.strerror}" if error is not None else ""
        if controller in wanted or (wanted and controller == "cgroup v2"):
            names = controller if controller in wanted else ", ".join(sorted(wanted))
            raise CgroupError(
                f"a {names} limit was asked for, and no cgroup can be made for it{why}; "
                "leave the limit out, or run where the cgroup filesystem is mounted and writable"
            )
        if parent and error is not None:
            raise CgroupError(f"cgroup parent {parent!r} can't be used{why}")

    def _make(self, controller: str, base: str, name: str, point: str) -> str:
        if base != point and not base.startswith(point + "/"):
            raise OSError(errno.EINVAL, "it is outside of the cgroup filesystem")
        path = os.path.join(base, name)
        for attempt in range(3):
            _make_base(controller, base)
            try:
                os.mkdir(path, 0o755)
                self.made.append(path)
                group_notes.mark(path)
                break
            except FileExistsError:
                break  # controllers that are mounted together
            except FileNotFoundError:
                if attempt == 2:
                    raise  # other steps with the same parent have removed it again and again
        if controller == "cpuset":
            _inherit_cpuset(path)
        self.directories[controller] = path
        return path

    def add(self, pid: int) -> None:
        """Move a process into the group, and with it all its later children. Raises OSError.

        In version 1 the kernel may need some ten milliseconds; the process runs on meanwhile.
        """
        for path in dict.fromkeys(self.directories.values()):
            _write(os.path.join(path, "cgroup.procs"), str(pid))

    def usage(self) -> dict[str, int]:
        """Return the group's resource use so far; a value that the kernel does not report is left out.

        The keys are ``user_us``, ``system_us``, ``peak_memory`` (bytes, page cache included), ``read_bytes``
        and ``write_bytes`` (block devices), and ``oom_kills``.
        """
        out: dict[str, int] = {}
        for controller, path in self.directories.items():
            if controller == "cpuacct":
                for key, file in (("user_us", "cpuacct.usage_user"), ("system_us", "cpuacct.usage_sys")):
                    _put(out, key, _number(os.path.join(path, file)), 1000)
            elif controller in (UNIFIED, "cpu"):
                stat = _table(os.path.join(path, "cpu.stat"))
                for key, field in (("user_us", "user_usec"), ("system_us", "system_usec")):
                    _put(out, key, stat.get(field), 1)
            elif controller == "memory":
                peak = _number(os.path.join(path, "memory.peak"))
                if peak is None:
                    peak = _number(os.path.join(path, "memory.max_usage_in_bytes"))
                _put(out, "peak_memory", peak, 1)
                events = _table(os.path.join(path, "memory.events")) or _table(
                    os.path.join(path, "memory.oom_control")
                )
                _put(out, "oom_kills", events.get("oom_kill"), 1)
            if controller in ("blkio", "io"):
                out |= _block_io(path)
        return out

    def kill(self) -> None:
        """Kill every process in the group at once, if the kernel can (cgroup v2, Linux 5.14)."""
        for path in dict.fromkeys(self.directories.values()):
            try:
                _write(os.path.join(path, "cgroup.kill"), "1")
            except OSError:
                pass  # version 1, or an older kernel: the caller has other means

    def remove(self) -> None:
        """Remove the directories that were made. Never raises: it is the last thing done."""
        for path in reversed(self.made):
            remove(path)
        self.made.clear()
        remove_parents(self.parent)

    @classmethod
    def reserve(cls, name: str, parent: str) -> Group:
        """Make the directories called ``name`` below ``parent`` in every hierarchy, for a runtime to use.

        The runtime would make them itself, but then no step would own a parent that another step removes
        meanwhile. Makes nothing without a parent.
        """
        group = cls({})
        group.parent = parent
        for controller, (point, own) in _layout().items() if parent else ():
            try:
                group._make(controller, _base(point, own, parent), name, point)
            except OSError as error:
                if error.errno == errno.EINVAL:  # a runtime would interpret the path in another way
                    group.remove()
                    raise CgroupError(f"cgroup parent {parent!r} can't be used: {error.strerror}") from None
        return group

    def note(self, bundle: str, others: list[str] | None = None) -> None:
        """Note in ``bundle`` the directories that were made, and ``others`` that a runtime may make.

        :func:`remove_noted` reads the note, if this process is killed before it removes them.
        """
        group_notes.write(bundle, [*self.made, *(others or ())], self.parent)

    def mark(self) -> None:
        """Mark the directories of a group that a runtime made as those of one of our steps."""
        for path in dict.fromkeys(self.directories.values()):
            group_notes.mark(path)

    def remove_of(self, name: str) -> None:
        """Remove the directories called ``name`` that a runtime made and did not remove."""
        for path in dict.fromkeys(self.directories.values()):
            if os.path.basename(path) == name and os.path.isdir(path):
                remove(path)


def _inherit_cpuset(path: str) -> None:
    """Copy the parent's CPUs: a new group of version 1 has none, and takes no process before it has."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        here = os.path.join(path, file)
        if not _read(here).strip():
            _write(here, _read(os.path.join(os.path.dirname(path), file)).strip())


def _layout() -> dict[str, tuple[str, str]]:
    try:
        return layout_of()
    except OSError:
        return {}  # without /proc there are no groups


def _base(point: str, own: str, parent: str) -> str:
    """Return the directory of ``parent`` in one hierarchy: absolute from its root, else relative to our own group."""
    return os.path.normpath(point + "/" + parent if parent.startswith("/") else os.path.join(own, parent))


def _make_base(controller: str, base: str) -> None:
    missing = []
    while not os.path.isdir(base):
        missing.append(base)
        base = os.path.dirname(base)
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o755)
            group_notes.mark(path, group_notes.PARENT)
        except FileExistsError:
            pass  # another step has the same parent
        except OSError:
            if not os.path.isdir(path):
                raise
        if controller == "cpuset":
            _inherit_cpuset(path)


def remove_parents(parent: str) -> None:
    """Remove ``parent`` in every hierarchy in which we made it and it is empty. Never raises."""
    if not parent:
        return
    for point, own in _layout().values():
        path = _base(point, own, parent)
        while path.startswith(point + "/"):
            try:
                if not group_notes.is_parent(path):
                    break
                os.rmdir(path)
            except OSError:
                break  # still in use
            path = os.path.dirname(path)


def remove_noted(bundle: str, own: str = "") -> None:
    """Kill the processes in the groups that were noted in ``bundle``, and remove the groups. Never raises.

    They are the groups that carry our mark, and those called ``own``, if the caller knows that name from
    elsewhere.
    """
    points = {point for point, _ in _layout().values()}
    paths, parent = group_notes.read(bundle)
    for path in reversed(paths):
        if not group_notes.is_below(path, points):
            continue
        if group_notes.is_marked(path, bundle) or (own and os.path.basename(path) == own):
            group_notes.kill_all(path)
            remove(path)
        elif group_notes.is_of(path, bundle):
            with suppress(
                OSError
            ):  # the runtime was killed before we could mark its group; processes in it are not touched
                os.rmdir(path)
    if parent:
        remove_parents(parent)


def remove(path: str) -> None:
    """Remove a group and everything below it; wait for processes that still end in it, at most a second each."""
    try:
        below = [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return  # gone already
    for inner in below:
        remove(inner)
    for _ in range(20):
        try:
            os.rmdir(path)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
        _await_processes(path)


def _await_processes(path: str) -> None:
    import select

    try:
        processes = _read(os.path.join(path, "cgroup.procs")).split()
    except OSError:
        return
    for pid in processes:
        try:
            fd = os.pidfd_open(int(pid))
        except OSError:
            continue  # it has just ended
        select.select((fd,), (), (), 1.0)
        os.close(fd)


def named(name: str) -> list[str]:
    """Return the directories where a runtime makes a group of this name: below our own, or (version 2) beside it."""
    return [
        os.path.join(base, name)
        for point, own in _layout().values()
        for base in dict.fromkeys((own, os.path.dirname(own) if own != point else own))
    ]


def _put(out: dict[str, int], key: str, value: int | None, unit: int) -> None:
    if value is not None:
        out[key] = value // unit


def _number(path: str) -> int | None:
    try:
        return int(_read(path))
    except (OSError, ValueError):
        return None


def _table(path: str) -> dict[str, int]:
    """Return the numbers of a file with lines ``name number``."""
    try:
        rows = [line.split() for line in _read(path).splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _block_io(path: str) -> dict[str, int]:
    """Return the bytes read from and written to block devices."""
    totals = {"read_bytes": 0, "write_bytes": 0}
    try:
        for line in _read(os.path.join(path, "io.stat")).splitlines():
            for field in line.split()[1:]:
                name, _, value = field.partition("=")
                if name in ("rbytes", "wbytes"):
                    totals["read_bytes" if name == "rbytes" else "write_bytes"] += int(value)
        return totals
    except OSError:
        pass
    for file in ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"):
        try:
            rows = [line.split() for line in _read(os.path.join(path, file)).splitlines()]
        except OSError:
            continue
        counted = [row for row in rows if len(row) == 3 and row[1] in ("Read", "Write")]
        for row in counted:
            totals["read_bytes" if row[1] == "Read" else "write_bytes"] += int(row[2])
        if counted:  # some kernels count nothing here, whatever is written
            return totals
    return {}
