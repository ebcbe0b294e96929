"""Capabilities and privileges (rows S16, S17): the default set, then additions, then drops."""

from __future__ import annotations

from ..errors import RequestError
from ..host import HostFacts
from ..linux.process import CAPABILITIES
from ..request import RunRequest
from .draft import Draft

DEFAULT = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID"
    " SETPCAP SETUID SYS_CHROOT"
).split()
"""The capabilities that docker build grants (moby, oci/caps/defaults.go), so that a Dockerfile behaves the same."""

SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def known(text: str) -> str:
    """Return the name without ``CAP_``, in upper case. Raises RequestError, which names the nearest known name."""
    name = text.upper().removeprefix("CAP_")
    if name not in CAPABILITIES:
        import difflib

        near = difflib.get_close_matches(name, CAPABILITIES, n=1)
        raise RequestError(f"unknown capability {text!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return name


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the capability sets: the defaults, then the additions, then the drops.

    ``all`` adds every known capability or empties every set. A user other than root keeps only the bounding set.
    """
    names = set(DEFAULT)
    for text in request.cap_add:
        names |= set(CAPABILITIES) if text.lower() == "all" else {known(text)}
    for text in request.cap_drop:
        names = set() if text.lower() == "all" else names - {known(text)}
    ours = set(host.capabilities)
    if ours:
        names &= ours  # the builder can't pass on a capability that it lacks
    listed = [f"CAP_{name}" for name in CAPABILITIES if name in names]
    root = draft.process["user"]["uid"] == 0
    draft.process["capabilities"] = {
        kind: list(listed) if kind == "bounding" or (root and kind in ("effective", "permitted")) else []
        for kind in SETS
    }
    draft.process["noNewPrivileges"] = request.no_new_privileges
