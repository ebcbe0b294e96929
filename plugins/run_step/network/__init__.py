"""What connects a step's own network namespace, made after the namespace and before the command (row S76).

Runs in the supervised child. A network is torn down in every outcome; its end while the step runs is an error.
Which of them it is, the plan has decided.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from typing import Any, Protocol

USER_MODE = ("slirp4netns", "pasta")
"""Modes that an unprivileged process serves."""

ADDRESS, GATEWAY = "@address@", "@gateway@"
"""In /etc/hosts of a plan: the step's address, and the machine's in the step's network, known when that is made. A line
stands there once for each of them, and not at all where there is none."""


STATE = "/run/buildfront/network"
"""A directory for each network namespace that has a bridge of ours, called by the namespace's inode and
cookie."""


class NetworkError(Exception):
    """A network that can't be had; the text is for the user."""


class Network(Protocol):
    """One step's network. ``addresses`` are the step's, ``gateways`` how it reaches the machine; ``dns`` is what the
    network says of name servers, as a CNI result does (``nameservers``, ``search``, ``domain``, ``options``)."""

    pid: int
    """The process that serves it, a child of ours, or 0: its end is the network's end."""
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    dns: dict[str, Any]
    warnings: list[str]

    def words(self) -> str:
        """What it said, for an error."""

    def close(self) -> None:
        """Tear it down. Never raises."""


def connect(job: dict[str, Any], pid: int, run: socket.socket) -> Network | None:
    """Connect the network namespace of ``pid`` as the job says, and complete the step's files with what is known then;
    None where there is nothing to do.

    ``run`` is the run's socket, by which the builder may ask for the end. Raises NetworkError, and Cancelled
    (:mod:`run_step.isolation.waiting`); nothing remains then.
    """
    plan = job.get("network")
    if not plan:
        return None
    network = _make(plan, job, pid, run)
    try:
        _complete(job, network)
        if job["isolation"] == "chroot":  # an OCI runtime does it itself
            network.warnings += set_sysctls(job["spec"]["linux"].get("sysctl") or {}, pid)
    except BaseException:
        network.close()
        raise
    return network


def _make(plan: dict[str, Any], job: dict[str, Any], pid: int, run: socket.socket) -> Network:
    mode = plan["mode"]
    if mode == "slirp4netns":
        from .slirp4netns import Slirp4netns

        return Slirp4netns(pid, job["bundle"], run)
    if mode == "pasta":
        from .pasta import Pasta

        return Pasta(pid, job["bundle"], run)
    if mode == "cni":
        from .cni import Calls, Networks

        calls = Calls(job["container_id"], plan["plugin_dirs"], run)
        return Networks(pid, job["bundle"], calls, plan["configs"])
    if mode == "bridge":
        if plan["library"] not in sys.path:
            sys.path.append(plan["library"])
        from .bridge import Bridge

        return Bridge(pid)
    raise NetworkError(f"network {mode!r} can't be made")


def _complete(job: dict[str, Any], network: Network) -> None:
    """The files are mounted already, so they are written to and not replaced."""
    files = os.path.join(job["bundle"], "files")
    _rewrite(os.path.join(files, "hosts"), lambda text: hosts(text, network.addresses, network.gateways))
    if job["network"].get("own_dns"):
        _rewrite(os.path.join(files, "resolv.conf"), lambda text: resolv(text, network.dns))


def set_sysctls(sysctls: dict[str, str], pid: int) -> list[str]:
    """Set the network's kernel parameters in the namespace of ``pid``; what can't be is a warning (row S44).

    By a child: who is root of a user namespace alone could enter the step's namespace and not come back.
    """
    from ..linux import mount as m
    from ..linux.process import errno_in_child

    def put(name: str, value: str) -> None:
        m.setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC), m.CLONE_NEWNET)
        with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as stream:
            stream.write(value)

    wrong = []
    for name, value in sysctls.items():
        if name.startswith("net.") and (number := errno_in_child(partial(put, name, value))):
            wrong.append(f"{name} can't be set: {os.strerror(number)}")
    return wrong


def _rewrite(path: str, change: Any) -> None:
    try:
        with open(path, "r+", encoding="utf-8", errors="surrogateescape") as stream:
            before = stream.read()
            after = change(before)
            if after != before:
                stream.seek(0)
                stream.write(after)
                stream.truncate()
    except FileNotFoundError:
        pass  # the step has the image's own


def hosts(text: str, addresses: tuple[str, ...], gateways: tuple[str, ...]) -> str:
    """/etc/hosts with a line for each address in the place of each line that begins with a token."""
    out = []
    for line in text.splitlines(keepends=True):
        for token, found in ((ADDRESS, addresses), (GATEWAY, gateways)):
            if line.startswith(token):
                out += [item + line.removeprefix(token) for item in found]
                break
        else:
            out.append(line)
    return "".join(out)


def resolv(text: str, dns: dict[str, Any]) -> str:
    """/etc/resolv.conf with the network's own name servers, search list and options in the place of the host's; what
    the network says nothing of stays (CNI specification, "Result", ``dns``)."""
    search = list(dns.get("search") or []) or ([dns["domain"]] if dns.get("domain") else [])
    own = {
        "nameserver": [f"nameserver {item}\n" for item in dns.get("nameservers") or []],
        "search": ["search " + " ".join(search) + "\n"] if search else [],
        "options": ["options " + " ".join(dns["options"]) + "\n"] if dns.get("options") else [],
    }
    kept = [line for line in text.splitlines(keepends=True) if not own.get((line.split() or [""])[0])]
    return "".join([*own["search"], *own["nameserver"], *kept, *own["options"]])
