"""Mounts (rows S60 to S64), in the order of their priority.

The order is: those of the RUN instruction, volumes, image volumes, bound files, the default mounts, cgroup.
The first mount with a destination keeps it.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
from dataclasses import replace

from ..errors import RequestError
from ..host import HostFacts
from ..option_text import parse_size
from ..planning import BUNDLE, BUNDLE_FILES, CopyTree, CopyVolume, MountPoint, PutDirectory, TakeSource
from ..request import KERNEL, RunRequest
from ..rootfs import above
from . import default_mounts, run_mounts
from .draft import Draft
from .volumes import Mount, Volume, parse_mount, parse_volume, prepare

TTY_GROUP = 5
"""The group of terminals (runtime-tools ``generate.New("linux")``)."""


def _mount(destination: str, kind: str, source: str, *options: str) -> Mount:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


DEFAULT_MOUNTS: tuple[tuple[str, str, str, str], ...] = (
    ("/proc", "proc", "proc", "nosuid noexec nodev"),
    ("/dev", "tmpfs", "tmpfs", "nosuid noexec strictatime mode=755 size=65536k"),
    ("/dev/pts", "devpts", "devpts", f"nosuid noexec newinstance ptmxmode=0666 mode=0620 gid={TTY_GROUP}"),
    ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
)
"""Destination, type, source and options of a new spec's mounts (runtime-tools ``generate.New("linux")``, row S60)."""

CGROUP_MOUNT = ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro")
"""The cgroups, below a /sys of the step's own (row S62)."""


def _has_tty_group(draft: Draft, host: HostFacts) -> bool:
    if draft.linux.get("gidMappings"):
        return draft.is_mapped("gidMappings", TTY_GROUP)
    return host.has_id("gid", TTY_GROUP)


def _own_mounts(draft: Draft, request: RunRequest, host: HostFacts) -> list[Mount]:
    """Return the default mounts, changed if the step shares a namespace with the host (rows S61, S62)."""
    out = []
    host_ipc = "ipc" in draft.host_namespaces
    host_net = "network" in draft.host_namespaces
    cgroup = True
    for destination, kind, source, options in DEFAULT_MOUNTS:
        item = _mount(destination, kind, source, *options.split())
        name = item["destination"]
        if name == "/dev/pts" and not _has_tty_group(draft, host):
            item["options"].remove(f"gid={TTY_GROUP}")  # the kernel refuses the mount
        if name == "/dev/shm" and request.shm_size:
            item["options"][-1] = f"size={parse_size(request.shm_size, 'shm size')}"
        if name in ("/dev/shm", "/dev/mqueue") and host_ipc:
            if not (host.has_dev_shm if name == "/dev/shm" else host.has_dev_mqueue):
                continue
            item = _mount(name, "bind", name, "rbind", "nosuid", "noexec", "nodev")
        if name == "/sys" and host_net:
            cgroup = False
            if not host.has_sys:
                continue
            item = _mount("/sys", "bind", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
            if draft.isolation == "oci":
                # Runtimes make only the top read-only, not the mounts below it: a step could leave its
                # cgroup.
                draft.linux["maskedPaths"].append("/sys/fs/cgroup")
        out.append(item)
    if cgroup and draft.isolation != "chroot":
        destination, kind, source, options = CGROUP_MOUNT
        out.append(_mount(destination, kind, source, *options.split()))
    return out


def _image_volumes(draft: Draft, volumes: tuple[str, ...]) -> list[Mount]:
    """Return a private copy for each volume that the image declares (row S63)."""
    out = []
    for volume in volumes:
        path = posixpath.normpath("/" + volume.lstrip("/"))
        if path == "/":
            raise RequestError(
                f"the image declares the volume {volume!r}: the root directory can't be a volume"
            )
        status = draft.root.stat(path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise RequestError(f"the image declares the volume {volume!r}, but that is not a directory")
        name = hashlib.sha256(path.encode()).hexdigest()[:16]
        draft.actions.append(CopyVolume(path, name))
        out.append(_mount(path, "bind", f"{BUNDLE}/volumes/{name}", "bind"))
    return out


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Collect the mounts in order and plan a mount point for each that the root filesystem lacks."""
    asked: dict[str, Volume] = {}
    for volume in (*map(parse_volume, request.volumes), *map(parse_mount, request.mounts)):
        asked.setdefault(volume.destination, volume)  # a volume that loses its destination has no effect
    volumes = [prepare(draft, volume, host) for volume in asked.values()]
    for item in volumes if host.has_rro and draft.isolation != "chroot" else ():
        if {"ro", "rbind"} <= set(item["options"]):
            item["options"].append("rro")  # ro by itself leaves mounts below it writable (not in the sandbox)
    files = [
        _mount(destination, "bind", f"{BUNDLE}/files/{name}", "rbind", "rw")
        for name, destination in draft.bound
    ]
    own = run_mounts.mounts(draft, request, host)
    builtin = _image_volumes(draft, request.image.volumes)
    secret = default_mounts.mounts(draft, request, host)
    chosen: dict[str, Mount] = {}
    given = [*volumes, *draft.extra_mounts]
    draft.claimed = frozenset(item["destination"] for item in (*own, *volumes))
    for item in [*own, *given, *builtin, *secret, *files, *_own_mounts(draft, request, host)]:
        chosen.setdefault(item["destination"], item)
    draft.spec["mounts"] = ordered = _parents_first(chosen)
    kept = {item["source"] for item in ordered}
    draft.actions = [
        action
        for action in draft.actions
        if not (isinstance(action, CopyVolume) and f"{BUNDLE}/volumes/{action.name}" not in kept)
        and not (isinstance(action, CopyTree) and f"{BUNDLE}/{action.name}" not in kept)
    ]
    draft.actions[:0] = _own_directories(draft)
    _mount_points(draft, {item["source"] for item in given if item["type"] == "bind"}, host)


def _parents_first(mounts: dict[str, Mount]) -> list[Mount]:
    """Return the mounts in the given order, but each after the mount that it lies in, which would hide it."""
    out: dict[str, Mount] = {}
    for destination in mounts:
        for path in (*above(destination), destination):
            if path in mounts:
                out.setdefault(path, mounts[path])
    return list(out.values())


def _mount_points(draft: Draft, host_sources: set[str], host: HostFacts) -> None:
    destinations = {item["destination"] for item in draft.spec["mounts"]}
    own = {action.path for action in draft.actions if isinstance(action, PutDirectory)}

    def is_inside(path: str) -> bool:
        return any(other in destinations for other in above(path))

    draft.actions = [
        replace(action, path="") if isinstance(action, TakeSource) and is_inside(action.path) else action
        for action in draft.actions
    ]
    for item in draft.spec["mounts"]:
        path = item["destination"]
        if is_inside(path):
            continue  # made inside the mount above it
        if item["source"].startswith(f"{BUNDLE}/sources/"):
            continue  # of the kind that the source turns out to be: see TakeSource
        directory = not item["source"].startswith(BUNDLE_FILES)
        if item["source"] in host_sources:
            directory = _is_directory(item["source"], host)
        if path not in own and draft.root.stat(path) is None:
            draft.actions.append(MountPoint(path, directory, _mode(item)))


def _own_directories(draft: Draft) -> list[PutDirectory]:
    """Return replacements for mount points of the kernel's filesystems that are not directories in the image.

    Runtimes make device nodes and links there by path name: through a link in the image they would be made on
    the host.
    """
    found = ((path, draft.root.lstat(path)) for path in KERNEL)
    return [PutDirectory(path) for path, status in found if status and not stat.S_ISDIR(status.st_mode)]


def _mode(item: Mount) -> int:
    """Return the mode of a tmpfs, whose mount point the step may see if it is not mounted; else 0755."""
    modes = [option[5:] for option in item["options"] if option.startswith("mode=")]
    return int(modes[-1], 8) if item["type"] == "tmpfs" and modes else 0o755


def _is_directory(path: str, host: HostFacts) -> bool:
    """Whether a path is a directory, by the host's facts: planning itself looks at no path of the host."""
    for item in host.paths:
        if item.path == path:
            return item.directory
    raise RequestError(f"volume source {path!r} does not exist on this host")
