"""The restrictions of an unprivileged user's runtime (row S67): the spec is rewritten at the end."""

from __future__ import annotations

from ..host import HostFacts
from ..linux.device_numbers import DEVICES
from ..option_text import parse_size
from ..request import Resources, RunRequest
from .draft import Draft
from .volumes import Mount


def _mounts(shm_size: str) -> list[Mount]:
    """Return the mounts that replace everything at or below /dev, /proc and /sys. Source: row S67."""
    size = parse_size(shm_size, "shm size") if shm_size else 65536 << 10
    rows = (
        ("/dev", "tmpfs", "/dev", "private strictatime noexec nosuid mode=755 size=65536k"),
        ("/dev/mqueue", "mqueue", "mqueue", "private nodev noexec nosuid"),
        ("/dev/pts", "devpts", "pts", "private noexec nosuid newinstance ptmxmode=0666 mode=0620"),
        ("/dev/shm", "tmpfs", "shm", f"private nodev noexec nosuid mode=1777 size={size}"),
        ("/proc", "proc", "/proc", "private nodev noexec nosuid"),
        ("/sys", "bind", "/sys", "rbind private nodev noexec nosuid ro"),
    )
    return [
        {"destination": destination, "type": kind, "source": source, "options": options.split()}
        for destination, kind, source, options in rows
    ]


def _protect_devices(draft: Draft, host: HostFacts) -> None:
    """Bind device nodes read-only if the step could change the host's own.

    In a user namespace runtimes bind the host's /dev/null and its like. If the host's root is an ID of that
    namespace, a step could change their owner and mode. With a read-only mount it can only use them.
    """
    if draft.isolation == "chroot" or "user" not in draft.namespaces or not host.is_machine_root:
        return
    if any(item["hostID"] == 0 for item in draft.linux.get("uidMappings", ())):
        draft.linux["readonlyPaths"] += [f"/dev/{name}" for name, _, _ in DEVICES]


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Clear hostname and resources, and replace the mounts of the kernel's filesystems.

    All other mounts are kept. Additional groups stay: ``privileges`` has left out those that can't be set.
    """
    _protect_devices(draft, host)
    if draft.isolation != "rootless":
        return
    draft.spec["hostname"] = ""
    if request.resources != Resources():
        draft.warnings.append(
            "limits of CPU, memory and processes do nothing here: rootless steps have no cgroup"
        )
    draft.linux.pop("resources", None)
    draft.linux.pop("cgroupsPath", None)
    if host.has_sys_cgroup:
        draft.linux["maskedPaths"].append("/sys/fs/cgroup")
    roots = ("/dev", "/proc", "/sys")
    kept = [
        item
        for item in draft.spec["mounts"]
        if item["destination"] in draft.claimed
        or not any(
            item["destination"] == root or item["destination"].startswith(root + "/") for root in roots
        )
    ]
    own = [item for item in _mounts(request.shm_size) if item["destination"] not in draft.claimed]
    draft.spec["mounts"] = [*own, *kept]
