"""The defaults of a step: everything that the request leaves open, decided in one place and only from facts.

The pipeline, the start of a program and ``buildfront doctor`` ask here, so that a build does what doctor says. An
explicit request is not decided here: it is met, or it is an error. Hot path: imports little.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from .network_terms import USER_MODE

if TYPE_CHECKING:
    from .host import HostFacts

_PACKAGES = {"slirp4netns": "slirp4netns", "pasta": "passt"}


class Choice(NamedTuple):
    """One of the choices. ``taken`` is empty if nothing works, and ``why`` then says what is missing.

    ``others`` are the better choices in their order, each with the reason why it was not taken. ``note`` is
    for the user if something is lost. It is empty otherwise, or if the plan warns of that itself.
    """

    taken: str
    why: str
    others: tuple[tuple[str, str], ...] = ()
    note: str = ""


class Defaults(NamedTuple):
    """All choices, in the order in which they depend on each other."""

    user_namespace: Choice
    isolation: Choice
    network: Choice
    seccomp: Choice
    devices: Choice
    limits: Choice

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the notes for the user, each once."""
        return tuple(choice.note for choice in self if choice.note)


def decide(host: HostFacts) -> Defaults:
    """Return all choices for ``host``: equal facts give equal choices.

    If a user namespace is to be entered (``user_namespace.taken`` is ``own``), the other choices are only an
    estimate; ask again with the facts from inside.
    """
    isolation = _isolation(host)
    name = isolation.taken or "chroot"
    return Defaults(
        user_namespace(host.uid, host.capabilities, host.no_userns),
        isolation,
        network(name, host),
        seccomp(name, host),
        _devices(name, host),
        _limits(name, host),
    )


def _first(rows: Iterator[tuple[str, str, str]]) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Return the first (name, why, why not) without a reason against it, and the rows before it with their reasons."""
    against: list[tuple[str, str]] = []
    for name, why, why_not in rows:
        if not why_not:
            return name, why, tuple(against)
        against.append((name, why_not))
    return "", "", tuple(against)


# the user


def user_namespace(uid: int, capabilities: Collection[str], no_userns: str) -> Choice:
    """Return ``own`` (the process becomes root of one, :func:`run_step.enter_user_namespace`) or ``none`` (it stays).

    The arguments are the facts of the same names (:class:`run_step.HostFacts`).
    """
    if uid != 0:
        if no_userns:
            return Choice("", f"an ordinary user needs a user namespace, and {no_userns}")
        return Choice("own", "an ordinary user builds as root of one")
    if "SYS_ADMIN" in capabilities:
        return Choice("none", "root needs none")
    if no_userns:
        return Choice("none", "root without CAP_SYS_ADMIN stays as it is", (("own", no_userns),))
    return Choice(
        "own",
        "root without CAP_SYS_ADMIN has it there",
        note="root has no CAP_SYS_ADMIN here, so the build is done as root of a user namespace",
    )


# isolation


def _isolation(host: HostFacts) -> Choice:
    runtime = host.working_runtime
    none = "no OCI runtime was found (install runc or crun)"
    if host.runtimes:
        none = "; ".join(f"{item.name}: {item.why}" for item in host.runtimes if not item.works)
    one_id = "only one user ID is mapped: an ordinary user without ranges in /etc/subuid and /etc/subgid"

    def rows() -> Iterator[tuple[str, str, str]]:
        works = f"{runtime.name} works here" if runtime is not None else ""
        no_root = "" if host.is_machine_root else "it needs root of the machine"
        yield "oci", f"root, and {works}", no_root if runtime is not None else none
        no_ranges = "" if _has_ranges(host) else one_id
        yield (
            "rootless",
            f"an ordinary user with ID ranges, and {works}",
            no_ranges if runtime is not None else none,
        )
        why = none if runtime is None else one_id
        yield "chroot", why, "" if host.has_mounts else _NO_MOUNTS
        # The same name: parts that need mounts are left out of the plan (pipeline/bare.py).
        alone = host.uid != 0 or "SYS_CHROOT" in host.capabilities
        yield "chroot", f"{why}; {_NO_MOUNTS}, so it is only chroot(2)", "" if alone else _NO_CHROOT

    name, why, others = _first(rows())
    if not name:
        return Choice("", nothing_works(host), others)
    note = ""
    if name == "chroot" and runtime is None and host.has_mounts:
        note = f"steps are isolated by chroot and namespaces, because no OCI runtime works here: {none}"
        if not host.runtimes:
            note = f"steps are isolated by chroot and namespaces, because {none}"
    return Choice(name, why, others, note)


_NO_MOUNTS = "nothing can be mounted (CAP_SYS_ADMIN is missing or a filter forbids it)"
_NO_CHROOT = "chroot(2) needs CAP_SYS_CHROOT"


def nothing_works(host: HostFacts) -> str:
    """Return why no isolation works on ``host``, and a remedy; the empty string if one does."""
    if host.has_mounts or host.uid != 0 or "SYS_CHROOT" in host.capabilities:
        return ""
    return (
        "root has no capabilities for a RUN step here: mounts need CAP_SYS_ADMIN, chroot(2) CAP_SYS_CHROOT, and a user "
        "namespace with root in it CAP_SETFCAP; grant one of them, or build as an ordinary user"
    )


def _has_ranges(host: HostFacts) -> bool:
    if host.uid == 0:
        return all(sum(row[2] for row in rows) > 1 for rows in (host.uid_map, host.gid_map))
    return bool(host.subuids and host.subgids)


# network


def user_mode(host: HostFacts) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the user-space network that works on ``host``, or the empty string; and why each before it does not."""
    there = {"slirp4netns": host.has_slirp4netns, "pasta": host.has_pasta}
    order = USER_MODE[::-1] if host.is_ipv6_only else USER_MODE

    def rows() -> Iterator[tuple[str, str, str]]:
        for name in order:
            yield name, "", host.no_tun if there[name] else f"not found (install {_PACKAGES[name]})"

    name, _, others = _first(rows())
    return name, others


def network(isolation: str, host: HostFacts) -> Choice:
    """Choose the network of a step with this isolation, without ``--network``: row S02 for ``rootless``."""
    if isolation != "rootless":
        return Choice("host", f"isolation {isolation} shares the builder's unless another is asked for")
    name, others = user_mode(host)
    if name:
        return Choice(name, "a network of the step's own, in user space", others)
    why = "; ".join(f"{other}: {reason}" for other, reason in others)
    if host.no_tun and (host.has_slirp4netns or host.has_pasta):
        why = host.no_tun
    return Choice("host", "no network in user space works", others, f"steps share the host's network: {why}")


# restrictions of a step by the kernel


def seccomp(isolation: str, host: HostFacts) -> Choice:
    """Choose the filter of a step with this isolation, without a profile."""
    profile = "the default profile"
    if isolation in ("oci", "rootless"):
        return Choice(profile, "the OCI runtime has it")
    if not host.has_libseccomp:
        return Choice(
            "none", "the filter can't be made", ((profile, "libseccomp is missing (install libseccomp2)"),)
        )
    if not host.has_mounts:
        return Choice(
            "none",
            "only chroot(2)",
            ((profile, "it needs CAP_SYS_ADMIN, or no-new-privileges"),),
        )
    return Choice(profile, "libseccomp has it")


def can_make_nodes(host: HostFacts) -> bool:
    """Whether device nodes can be made: not in a user namespace, even by its root (capabilities(7), mknod(2))."""
    return host.is_machine_root and "MKNOD" in host.capabilities


def _devices(isolation: str, host: HostFacts) -> Choice:
    own, bound = "nodes of the step's own", "the host's nodes, bound"
    if isolation == "chroot" and not host.has_mounts:
        if can_make_nodes(host):
            return Choice("nodes made for the time of the step", "only chroot(2)")
        return Choice(
            "what the image has", "only chroot(2)", ((own, "making nodes needs CAP_MKNOD of the machine"),)
        )
    if can_make_nodes(host) and isolation != "rootless":
        return Choice(own, "root of the machine may make them")
    return Choice(bound, "that needs no privilege", ((own, "in a user namespace none can be made"),))


def _limits(isolation: str, host: HostFacts) -> Choice:
    """Choose the kind of limits; without options there are none."""
    groups, ulimits = "cgroups", "only ulimits"
    if isolation == "rootless":
        return Choice(ulimits, "rootless steps have no cgroup", ((groups, "isolation rootless has none"),))
    if host.no_cgroups:
        return Choice(ulimits, "no cgroup can be made", ((groups, host.no_cgroups),))
    return Choice(groups, f"cgroup {host.cgroup}")
