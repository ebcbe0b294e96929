"""The isolation, and the namespaces that it forces or forbids (rows S01, S02, S03, X04)."""

from __future__ import annotations

from .. import defaults
from ..errors import HostError, RequestError
from ..host import HostFacts
from ..request import NAMESPACES, NamespaceOption, RunRequest
from . import bare
from .draft import Draft


def choose(wanted: str, host: HostFacts) -> tuple[str, str]:
    """Resolve ``auto`` (row X04); return the isolation and the reason for it."""
    if wanted and wanted != "auto":
        return wanted, "asked for"
    choice = defaults.decide(host).isolation
    # If none works, planning reports that with a remedy.
    return choice.taken or "chroot", choice.why


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Collect the namespace options by name, as the isolation needs them."""
    for option in request.namespaces:
        if option.name not in NAMESPACES:
            raise RequestError(f"unknown namespace {option.name!r}; known are {', '.join(NAMESPACES)}")
    options = {option.name: option for option in request.namespaces}
    network = network_option(request.network)
    if network is not None:
        options["network"] = network
    if draft.isolation == "rootless":
        if network is None and "network" not in options:
            chosen = defaults.network(draft.isolation, host)
            options["network"] = NamespaceOption("network", host=chosen.taken == "host")
            draft.warnings += [chosen.note] if chosen.note else []
        options.update(_rootless(options))
    if bare.is_bare(draft, host):
        if why := defaults.nothing_works(host):
            raise HostError(why)
        options = bare.host_namespaces(options, request)
    user = options.get("user", NamespaceOption("user", host=True))
    pid = options.get("pid", NamespaceOption("pid"))
    private_user = bool(request.uid_map or request.gid_map) or not user.host
    if draft.isolation == "oci" and private_user and pid.host:
        raise RequestError("a private user namespace can't be combined with the host's PID namespace")
    if draft.isolation == "oci" and not request.runtime and host.runtimes and host.working_runtime is None:
        why = "; ".join(f"{item.name}: {item.why}" for item in host.runtimes)
        raise HostError(f"no OCI runtime works here ({why}); use --isolation chroot")
    draft.options = options


def _rootless(options: dict[str, NamespaceOption]) -> dict[str, NamespaceOption]:
    """Make IPC, PID and USER private and UTS the host's; keep the choice for NET."""
    network = options["network"]
    if network.path and not network.path.startswith("/"):
        network = NamespaceOption("network", host=network.host)
    return {
        "ipc": NamespaceOption("ipc"),
        "network": network,
        "pid": NamespaceOption("pid"),
        "user": NamespaceOption("user"),
        "uts": NamespaceOption("uts", host=True),
    }


_HELPERS = ("private", "bridge", "slirp4netns", "pasta")


def network_option(text: str) -> NamespaceOption | None:
    """Return ``--network`` as a namespace option; None for ``default``. Raises RequestError, which quotes ``text``."""
    if text in ("", "default"):
        return None
    if text == "host":
        return NamespaceOption("network", host=True)
    if text == "none" or text in _HELPERS:
        return NamespaceOption("network")
    if text.startswith("ns:"):
        if not text[3:].startswith("/"):
            raise RequestError(f"network {text!r}: the path after ns: must be absolute")
        return NamespaceOption("network", path=text[3:])
    names = text.split(",")
    if not all(name and all(c.isalnum() or c in "_.-" for c in name) and name.isascii() for name in names):
        raise RequestError(
            f"network {text!r}: known are default, none, host, ns:PATH, {', '.join(_HELPERS)}, "
            "and names of networks with commas between them"
        )
    return NamespaceOption("network", path=text)
