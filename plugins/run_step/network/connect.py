"""Connect a step's own network namespace, after the namespace is made and before the command (row S76).

Runs in the supervised child. A network is torn down in every outcome; its end while the step runs is an error.
The plan has decided which network it is.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from ..network_terms import ADDRESS, GATEWAY
from ..run_protocol import Job, NetworkJob
from .cni import Calls, Networks
from .model import Network, NetworkError
from .pasta import Pasta
from .slirp4netns import Slirp4netns
from .sysctls import set_sysctls


def connect(job: Job, pid: int, run: socket.socket) -> Network | None:
    """Connect the network namespace of ``pid`` as the job says, and complete the step's files.

    ``run`` is the run's socket, on which the builder may ask for the end. Returns None if the job asks for no
    network. Raises NetworkError, and Cancelled (:mod:`run_step.linux.children`); nothing is left behind
    then.
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


def _make(plan: NetworkJob, job: Job, pid: int, run: socket.socket) -> Network:
    mode = plan["mode"]
    if mode == "slirp4netns":
        return Slirp4netns(pid, job["bundle"], run)
    if mode == "pasta":
        return Pasta(pid, job["bundle"], run)
    if mode == "cni":
        calls = Calls(job["container_id"], plan["plugin_dirs"], run)
        return Networks(pid, job["bundle"], calls, plan["configs"])
    if mode == "bridge":
        if plan["library"] not in sys.path:
            sys.path.append(plan["library"])
        from .bridge import Bridge

        return Bridge(pid)
    raise NetworkError(f"network {mode!r} can't be made")


def _complete(job: Job, network: Network) -> None:
    """Fill in the step's files. They are mounted already, so they are written to and not replaced."""
    files = os.path.join(job["bundle"], "files")
    _rewrite(os.path.join(files, "hosts"), lambda text: hosts(text, network.addresses, network.gateways))
    if job["network"].get("own_dns"):
        _rewrite(os.path.join(files, "resolv.conf"), lambda text: resolv(text, network.dns))


def _rewrite(path: str, change: Callable[[str], str]) -> None:
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
