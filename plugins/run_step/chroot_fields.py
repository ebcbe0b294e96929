"""The fields of an OCI runtime specification that chroot isolation honours; all others are refused, never ignored.

Data that planning and execution share: a spec is checked when a plan is made, and again before a plan is carried
out that may have been changed in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .errors import HostError
from .planning import NetworkPlan

Tree = Mapping[str, Any]
"""The known fields of an object: True for a field that is honoured whatever its value is, a Tree for an
object or a list of objects, a tuple for the values that are honoured.
"""

_SETS: Tree = dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), True)
_DEVICE: Tree = dict.fromkeys(("path", "type", "major", "minor", "fileMode", "uid", "gid"), True)
_ID_MAP: Tree = dict.fromkeys(("containerID", "hostID", "size"), True)
_NAMES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup")

HONOURED: Tree = {
    "ociVersion": True,
    "hostname": True,
    "domainname": True,
    "annotations": True,  # information for readers of the spec; runtimes ignore them
    "hooks": {},  # no hook is honoured; each is reported by its name
    "root": {"path": True, "readonly": True},
    "process": {
        "terminal": True,
        "consoleSize": True,
        "cwd": True,
        "env": True,
        "args": True,
        "user": {"uid": True, "gid": True, "umask": True, "additionalGids": True},
        "capabilities": _SETS,
        "rlimits": {"type": True, "soft": True, "hard": True},
        "noNewPrivileges": True,
        "apparmorProfile": True,
        "selinuxLabel": True,
        "oomScoreAdj": True,
    },
    "mounts": {"destination": True, "type": True, "source": True, "options": True},
    "linux": {
        "namespaces": {"type": _NAMES, "path": True},
        "uidMappings": _ID_MAP,
        "gidMappings": _ID_MAP,
        "devices": _DEVICE,
        "cgroupsPath": True,
        "resources": {
            "devices": True,  # no device cgroup: only the nodes that the plan makes can be opened
            "cpu": dict.fromkeys(("shares", "quota", "period", "cpus", "mems"), True),
            "memory": {"limit": True, "swap": True},
            "pids": {"limit": True},
        },
        "sysctl": True,  # checked by name: see _sysctls()
        "seccomp": {
            "defaultAction": True,
            "defaultErrnoRet": True,
            "architectures": True,
            "flags": (
                "SECCOMP_FILTER_FLAG_LOG",
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                "SECCOMP_FILTER_FLAG_TSYNC",
            ),
            "syscalls": dict.fromkeys(("names", "action", "errnoRet", "args"), True),
        },
        # No mount of a step is seen outside. A later mount of the host is seen if a volume asks for it.
        "rootfsPropagation": ("private", "rprivate", "slave", "rslave"),
        "maskedPaths": True,
        "readonlyPaths": True,
        "mountLabel": True,
    },
}
"""The honoured fields of the runtime specification 1.2 for Linux (config.md, config-linux.md)."""

RLIMITS = tuple(
    f"RLIMIT_{name}"
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK"
    ).split()
)
"""The limits of Linux (getrlimit(2))."""

_WITHOUT_MOUNTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "root.readonly": lambda spec: spec["root"].get("readonly"),
    "linux.maskedPaths": lambda spec: spec["linux"].get("maskedPaths"),
    "linux.readonlyPaths": lambda spec: spec["linux"].get("readonlyPaths"),
    "linux.devices": lambda spec: spec["linux"].get("devices"),
    "mounts": lambda spec: spec.get("mounts"),
}
"""The fields that need a mount namespace."""

BIND_OPTIONS = frozenset(
    (
        "bind rbind ro rw suid nosuid dev nodev exec noexec atime noatime relatime norelatime strictatime"
        " nostrictatime diratime nodiratime private rprivate slave rslave shared rshared unbindable runbindable"
        " rro rnosuid rnodev rnoexec defaults async nomand"
    ).split()
)
"""The options of a bind mount that the sandbox understands. For other mounts, the remaining options are
passed to the kernel, which refuses those that it does not know.
"""


def check_fields(isolation: str, spec: Mapping[str, Any], network: NetworkPlan) -> None:
    """Raise HostError for fields of ``spec``, whoever set them, that chroot isolation does not honour."""
    if isolation != "chroot":
        return
    found = refused(spec, network.mode not in ("host", "none", "path"))
    if found:
        raise HostError(
            f"chroot isolation can't honour {', '.join(found)}: leave it out of the spec, or use an OCI runtime "
            "(--isolation oci or rootless)"
        )


def refused(spec: Mapping[str, Any], connected: bool) -> list[str]:
    """Return the places of the fields in ``spec`` that are set and can't be honoured.

    ``connected``: the step has its own network, which is connected; sysctls are set as a part of that.
    """
    found = list(_walk(spec, HONOURED, ""))
    if not any(item.get("type") == "mount" for item in spec["linux"].get("namespaces", ())):
        found += [
            f"{name} without a mount namespace" for name, is_set in _WITHOUT_MOUNTS.items() if is_set(spec)
        ]
    new = {item["type"] for item in spec["linux"].get("namespaces", ()) if not item.get("path")}
    if "uts" not in new:
        found += [
            f"{name} without a new UTS namespace" for name in ("hostname", "domainname") if spec.get(name)
        ]
    found += [
        f"process.rlimits[{item['type']}]"
        for item in spec.get("process", {}).get("rlimits") or ()
        if item["type"] not in RLIMITS
    ]
    found += [
        f"linux.sysctl[{name}]"
        for name in spec["linux"].get("sysctl") or ()
        if not (connected and name.startswith("net."))
    ]
    for item in spec.get("mounts") or ():
        if item["type"] == "bind":
            found += [
                f"the option {option!r} of the mount on {item['destination']}"
                for option in item.get("options") or ()
                if option not in BIND_OPTIONS
            ]
    return found


def _walk(value: Any, known: Any, place: str) -> Iterator[str]:
    """Yield every place of ``value`` that ``known`` lacks and that is not empty."""
    if known is True:
        return
    if isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item, known, place)
    elif isinstance(known, tuple):
        if value and value not in known:
            yield f"{place}={value}"
    elif isinstance(value, Mapping):
        for name, item in value.items():
            here = f"{place}.{name}" if place else name
            if name in known:
                yield from _walk(item, known[name], here)
            elif item:
                yield here
