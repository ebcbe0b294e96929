"""Examine what this machine can do for a RUN step, by trying, and say what would make the rest work.

For people (``buildfront doctor``) and for frontends. Planning does not use it: it has its own facts
(:mod:`run_step.host`).
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

from . import defaults
from .defaults import Choice, Defaults, decide
from .errors import HostError
from .helper_programs import which
from .host import HostFacts
from .host_lookup import look_up
from .host_probe import probe, probe_runtimes
from .isolation.cgroup import CgroupError, Group
from .linux import mount as m
from .linux.id_maps import is_machine_root, needs_user_namespace, sub_ids
from .linux.process import effective, errno_in_child
from .network.user_mode import why_no_tun
from .network_terms import CNI_CONFIG_DIRS, CNI_PLUGIN_DIRS
from .pipeline.networks import configurations
from .request import RunRequest
from .rootless import enter_user_namespace, why_no_user_namespace


class Finding(NamedTuple):
    """The result for one thing that a step may need. ``detail`` is what was found, or the remedy."""

    what: str
    ok: bool
    detail: str


_NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup", "user")


def examine() -> list[Finding]:
    """Try each thing once; leave nothing behind.

    A process of an unprivileged user becomes root of a user namespace, as for a build: call this function at
    the start of the program.
    """
    before, user = _user()
    host = replace(probe(runtimes=False), runtimes=probe_runtimes(every=True)) if os.geteuid() == 0 else None
    if host is None:
        return user
    found = [*user, Finding("kernel", True, f"{host.kernel} {host.architecture}")]
    found += [_namespace(name) for name in _NAMESPACES]
    found.append(
        Finding(
            "mounts",
            host.has_mounts,
            "a mount namespace can be made"
            if host.has_mounts
            else "none can be made: grant CAP_SYS_ADMIN, or allow user namespaces; steps have only chroot(2)",
        )
    )
    found.append(
        Finding("cgroup", host.cgroup != "none", host.cgroup if host.cgroup != "none" else "not mounted")
    )
    found += _limits()
    for fact in host.runtimes:
        found.append(Finding(f"runtime {fact.name}", fact.works, fact.path if fact.works else fact.why))
    if not host.runtimes:
        found.append(Finding("runtime", False, "none found; install runc or crun, or use --isolation chroot"))
    found.append(
        Finding(
            "seccomp", host.has_libseccomp, "libseccomp" if host.has_libseccomp else "install libseccomp2"
        )
    )
    for name, there in (("apparmor", host.apparmor), ("selinux", host.selinux)):
        found.append(
            Finding(
                name, there, "enabled" if there else "this kernel does not have it; its options do nothing"
            )
        )
    found.append(_terminal())
    found.append(_bridge())
    found.append(_cni())
    no_tun = why_no_tun()
    for name, package, there in (
        ("slirp4netns", "slirp4netns", host.has_slirp4netns),
        ("pasta", "passt", host.has_pasta),
    ):
        missing = no_tun if there else f"not found; install {package} for networks of users"
        found.append(Finding(name, not missing, missing or "found"))
    runtime = host.working_runtime
    ranges = is_machine_root() or sum(row[2] for row in host.uid_map) > 1
    why = "no OCI runtime works here"
    found.append(
        Finding(
            "isolation oci",
            bool(runtime and is_machine_root()),
            runtime.name
            if runtime and is_machine_root()
            else why
            if runtime is None
            else "only for root of the machine",
        )
    )
    found.append(
        Finding(
            "isolation rootless",
            bool(runtime and ranges),
            runtime.name if runtime and ranges else why if runtime is None else "the user has only one ID",
        )
    )
    found.append(
        Finding(
            "isolation chroot", True, "in namespaces" if host.has_mounts else "only chroot(2): see mounts"
        )
    )
    chosen = decide(host)
    return found + _automatic(chosen._replace(user_namespace=before))


def _automatic(chosen: Defaults) -> list[Finding]:
    """Return the choices of a build without options.

    Each names the better ones and why they are not taken; a summary comes last.
    """
    found = []
    for name, choice in chosen._asdict().items():
        against = "".join(f"; not {other}: {why}" for other, why in choice.others)
        found.append(
            Finding(
                f"{_words(name)} auto",
                bool(choice.taken),
                f"{choice.taken or 'nothing'}: {choice.why}{against}",
            )
        )
    parts = ", ".join(f"{_words(name)} {choice.taken}" for name, choice in chosen._asdict().items())
    works = all(choice.taken for choice in chosen)
    broken = "; ".join(choice.why for choice in chosen if not choice.taken)
    detail = f"would use {parts}" if works else f"can't run a step: {broken}"
    return [*found, Finding("a build with no options", works, detail)]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _user() -> tuple[Choice, list[Finding]]:
    """Return the choice of a user namespace, and the findings about the user.

    The choice is made from the facts before the user namespace is entered, which is done here.
    """
    uid = os.geteuid()
    why = why_no_user_namespace() if needs_user_namespace() else ""
    choice = defaults.user_namespace(uid, effective(), why)
    if uid == 0:
        who = "root" if is_machine_root() else "root of a user namespace"
        entered = enter_user_namespace()
        if choice.taken == "own":
            who = f"{who} without CAP_SYS_ADMIN, so root of a user namespace of its own"
        return choice, [Finding("user", not entered[1:], "; ".join((who, *entered[1:])))]
    found = []
    for kind in ("uid", "gid"):
        ranges = sub_ids(kind)
        detail = ", ".join(f"{first} to {first + count - 1}" for first, count in ranges)
        remedy = f"no range in /etc/sub{kind} (as root: usermod --add-sub{kind}s 100000-165535 USER)"
        found.append(Finding(f"sub{kind}", bool(ranges), detail or remedy))
        path = which(f"new{kind}map")
        found.append(
            Finding(f"new{kind}map", path is not None, path or "not found (Debian: apt-get install uidmap)")
        )
    try:
        warnings = enter_user_namespace()
    except HostError as error:
        nothing = Finding("a build with no options", False, f"can't run a step: {choice.why}")
        return choice, [Finding("user", False, str(error)), *found, nothing]
    detail = warnings[0] if warnings else f"uid {uid}, root of a user namespace of its own"
    return choice, [Finding("user", not warnings, detail), *found]


def _try(flags: int) -> str:
    """Unshare in a forked child; return the empty string, or why it failed."""
    number = errno_in_child(lambda: m.unshare(flags))
    return os.strerror(number) if number else ""


def _namespace(name: str) -> Finding:
    flags = {
        "mount": m.CLONE_NEWNS,
        "pid": m.CLONE_NEWPID,
        "network": m.CLONE_NEWNET,
        "ipc": m.CLONE_NEWIPC,
        "uts": m.CLONE_NEWUTS,
        "cgroup": m.CLONE_NEWCGROUP,
        "user": m.CLONE_NEWUSER,
    }
    why = _try(flags[name])
    return Finding(f"namespace {name}", not why, "can be made" if not why else f"can't be made: {why}")


def _bridge() -> Finding:
    """Try the built-in network in a forked child, in a network namespace that ends with it."""
    from .network import bridge  # it loads pyroute2

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            m.unshare(m.CLONE_NEWNET)
            text = "\0".join(bridge.examine())
        except BaseException as error:  # noqa: BLE001 - reported by the parent
            text = f"!{error or type(error).__name__}"
        finally:
            os.write(writer, text.encode(errors="replace")[:4000])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read().decode(errors="replace")
    os.waitpid(child, 0)
    if said.startswith("!"):
        return Finding(
            "network bridge", False, f"can't be made: {said[1:]}; steps have --network host or none"
        )
    if not is_machine_root():
        return Finding("network bridge", False, "only for root of the machine; see slirp4netns and pasta")
    if said:
        return Finding(
            "network bridge", False, f"steps would reach only this machine: {said.replace(chr(0), '; ')}"
        )
    return Finding("network bridge", True, "bridge, veth and address translation for IPv4 and IPv6")


def _cni() -> Finding:
    plugins = sorted({name for path in CNI_PLUGIN_DIRS if os.path.isdir(path) for name in os.listdir(path)})
    if not plugins:
        return Finding(
            "network CNI",
            False,
            f"no plugins in {', '.join(CNI_PLUGIN_DIRS)}; install containernetworking-plugins for named networks",
        )
    try:
        known = configurations(look_up(RunRequest(("x",), "/", network="private"), HostFacts()).cni)
    except HostError as error:
        return Finding("network CNI", False, str(error))
    missing = sorted(
        {plugin["type"] for network in known.values() for plugin in network["plugins"]} - set(plugins)
    )
    if missing:
        return Finding(
            "network CNI", False, f"networks {', '.join(known)} need missing plugins: {', '.join(missing)}"
        )
    networks = f"networks {', '.join(known)}" if known else f"no network in {', '.join(CNI_CONFIG_DIRS)}"
    return Finding("network CNI", True, f"{networks}; {len(plugins)} plugins")


def _limits() -> list[Finding]:
    found = []
    for name, limits in (
        ("cpu", {"cpu": {"shares": 1024}}),
        ("memory", {"memory": {"limit": 1 << 30}}),
        ("pids", {"pids": {"limit": 1000}}),
    ):
        try:
            group = Group.create(f"buildfront-doctor-{os.getpid()}", limits)
        except CgroupError as error:
            found.append(Finding(f"limit {name}", False, str(error)))
        else:
            found.append(Finding(f"limit {name}", True, "can be set"))
            group.remove()
    return found


def _terminal() -> Finding:
    try:
        os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        return Finding("terminal", False, f"/dev/ptmx can't be opened: {error.strerror}")
    return Finding("terminal", True, "a step can be given one")
