"""Which isolation, and what it forbids (rows S01, S03)."""

from __future__ import annotations

from ..errors import HostError
from ..host import HostFacts
from ..planning import Draft
from ..request import RunRequest


def choose(wanted: str, host: HostFacts) -> tuple[str, str]:
    """Resolve ``auto`` (row X04): the isolation and the reason why it was taken."""
    if wanted and wanted != "auto":
        return wanted, "asked for"
    runtime = host.working_runtime
    if host.uid == 0 and runtime is not None:
        return "oci", f"root, and {runtime.name} works here"
    why = "; ".join(f"{item.name}: {item.why}" for item in host.runtimes) or "no OCI runtime was found"
    return "chroot", why


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Refuse what can't be done at all before any other stage decides anything."""
    if draft.isolation == "rootless":
        raise HostError("isolation 'rootless' is not built yet; use 'oci' or 'chroot' as root")
    if host.uid != 0:
        raise HostError("a RUN step needs root for now: run the build as root")
    if draft.isolation == "oci" and not request.runtime and host.runtimes and host.working_runtime is None:
        why = "; ".join(f"{item.name}: {item.why}" for item in host.runtimes)
        raise HostError(f"no OCI runtime works here ({why}); use --isolation chroot")
