"""The connection of a step's own network namespace, made after the namespace and before the command (row S76).

It runs in the supervised child. The plan has decided which kind of network it is. A network is torn down in
every outcome. If its process ends while the step runs, that is an error.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from typing import Any, Protocol

USER_MODE = ("slirp4netns", "pasta")
"""The modes that an unprivileged process serves."""

ADDRESS, GATEWAY = "@address@", "@gateway@"
"""Placeholders in the /etc/hosts of a plan: the step's address, and the machine's address in the step's
network. The addresses are known when the network is made. A line with a placeholder is written once for each
address, and is left out if there is none.
"""


STATE = "/run/buildfront/network"
"""The parent of the directories that hold the state of our bridges, one for each network namespace, named
after the namespace's inode and cookie.
"""


class NetworkError(Exception):
    """A network that can't be made; the text is for the user."""


class Network(Protocol):
    """The network of one step.

    ``addresses`` are the step's addresses, ``gateways`` those by which it reaches the machine. ``dns`` holds
    the network's name server settings in the form of a CNI result (``nameservers``, ``search``, ``domain``,
    ``options``).
    """

    pid: int
    """The ID of the process that serves the network, a child of ours, or 0. The network ends when the process ends."""
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    dns: dict[str, Any]
    warnings: list[str]

    def words(self) -> str:
        """The output of the network's process, for an error message."""

    def close(self) -> None:
        """Tear it down. Never raises."""


def connect(job: dict[str, Any], pid: int, run: socket.socket) -> Network | None:
    """Connect the network namespace of ``pid`` as the job says, and complete the step's files.

    ``run`` is the run's socket, on which the builder may ask for the end. Returns None if the job asks for no
    network. Raises NetworkError, and Cancelled (:mod:`run_step.isolation.waiting`); nothing is left behind
    then.
    """
    plan = job.get("network")
    if not plan:
        return None
    network = _make(plan, job, pid, run)
    try:
        _complete(job, network)
        if job["isolation"] == "chroot":  # an OCI runtime sets them itself
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
    """Write the network's addresses into the step's files, in place because they are mounted already."""
    files = os.path.join(job["bundle"], "files")
    _rewrite(os.path.join(files, "hosts"), lambda text: hosts(text, network.addresses, network.gateways))
    if job["network"].get("own_dns"):
        _rewrite(os.path.join(files, "resolv.conf"), lambda text: resolv(text, network.dns))


def set_sysctls(sysctls: dict[str, str], pid: int) -> list[str]:
    """Set the network's kernel parameters in the namespace of ``pid``; return a warning for each failure (row S44).

    A forked child sets them: a process that is root only in a user namespace could enter the step's namespace
    and not come back.
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
    """Return the /etc/hosts text with each placeholder line replaced by one line for each address."""
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
    """Return the resolv.conf text with the network's own name servers, search list and options.

    They replace the host's. The host's lines stay for whatever the network does not set (CNI specification,
    "Result", ``dns``).
    """
    search = list(dns.get("search") or []) or ([dns["domain"]] if dns.get("domain") else [])
    own = {
        "nameserver": [f"nameserver {item}\n" for item in dns.get("nameservers") or []],
        "search": ["search " + " ".join(search) + "\n"] if search else [],
        "options": ["options " + " ".join(dns["options"]) + "\n"] if dns.get("options") else [],
    }
    kept = [line for line in text.splitlines(keepends=True) if not own.get((line.split() or [""])[0])]
    return "".join([*own["search"], *own["nameserver"], *kept, *own["options"]])
