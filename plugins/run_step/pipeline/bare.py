"""Chroot isolation with only chroot(2), on a machine where nothing can be mounted (row X81).

An ordinary container is such a machine. The files of the step are written over the image's own, which are
restored afterwards; the usual devices exist only while the step runs. Anything that was asked for and is not
possible is an error before anything happens. The missing parts of the defaults are listed in one warning.
"""

from __future__ import annotations

from ..defaults import can_make_nodes
from ..errors import HostError
from ..host import HostFacts
from ..linux.device_numbers import DEVICES
from ..planning import BUNDLE, MakeDirectory, MakeNode, PutFile
from ..request import NAMESPACES, NamespaceOption, RunRequest
from .draft import Draft


def is_bare(draft: Draft, host: HostFacts) -> bool:
    """Whether the step must do without mounts."""
    return draft.isolation == "chroot" and not host.has_mounts


def host_namespaces(options: dict[str, NamespaceOption], request: RunRequest) -> dict[str, NamespaceOption]:
    """Return options by which every namespace is the builder's.

    Raises HostError, which names everything that was asked for and is not possible.
    """
    asked = [f"{name} namespace" for name in sorted(options) if not options[name].host and name != "network"]
    if "network" in options and not options["network"].host:
        asked.append(f"network {request.network!r}")
    for name, value in (
        ("ID maps", request.uid_map or request.gid_map),
        ("volumes", request.volumes),
        ("mounts", request.mounts),
        ("mounts of RUN", request.run_mounts),
        ("volumes of the image", request.image.volumes),
        ("devices", request.devices),
        ("the size of /dev/shm", request.shm_size),
        ("a hostname", request.hostname),
        ("masked paths", request.mask),
        ("a seccomp profile", request.seccomp not in ("", "unconfined") and not request.no_new_privileges),
    ):
        if value:
            asked.append(name)
    if asked:
        raise HostError(
            f"{', '.join(asked)}: this machine lets nothing be mounted (CAP_SYS_ADMIN is missing or a filter forbids "
            "it), and chroot(2) by itself can't do that; leave it out, or run with the capability"
        )
    return {name: NamespaceOption(name, host=True) for name in NAMESPACES}


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Rewrite the finished plan: no mounts, no masks, and files put in place instead."""
    if not is_bare(draft, host):
        return
    lost = ["/proc, /sys and /dev/pts are missing", "processes and network are the builder's"]
    prefix = f"{BUNDLE}/files/"
    files = [item for item in draft.spec["mounts"] if item["source"].startswith(prefix)]
    if any(item["source"].startswith(f"{BUNDLE}/secrets/") for item in draft.spec["mounts"]):
        lost.append("the secrets of mounts.conf are not there")
    draft.spec["mounts"] = []
    draft.linux["maskedPaths"] = []
    draft.linux["readonlyPaths"] = []
    draft.actions = [action for action in draft.actions if isinstance(action, MakeDirectory)]
    draft.actions += [PutFile(item["source"].removeprefix(prefix), item["destination"]) for item in files]
    nodes = [MakeNode(f"/dev/{name}", major, minor) for name, major, minor in DEVICES]
    missing = [node for node in nodes if draft.root.lstat(node.path) is None]
    if missing and can_make_nodes(host):
        draft.actions += missing
    elif missing:
        lost.append("/dev/null and the other devices are missing")
    if "seccomp" in draft.linux and not request.no_new_privileges:
        del draft.linux["seccomp"]
        lost.append("there is no seccomp filter")
    draft.warnings.append("nothing can be mounted here, so the step has only chroot(2): " + "; ".join(lost))
