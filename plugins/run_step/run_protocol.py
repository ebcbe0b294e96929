"""The messages between a builder and its supervisor (:mod:`run_step.supervisor`). Hot path: imports little."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NotRequired, TypedDict

LENGTH = struct.Struct("!I")
"""The head of a message: its length in bytes."""

RUN, LIBRARY = b"r", b"l"
"""The kinds of requests on the control socket: a run, with its descriptors; the directory of the library that the
built-in network needs, as a message, once and before the first run that needs it."""

MOST_FDS = 250
"""The limit for descriptors in one message; the kernel takes 253 (net/scm.h, SCM_MAX_FD)."""


class NetworkJob(TypedDict):
    """How to connect the step, see :class:`run_step.planning.NetworkPlan`. ``library`` is the directory of pyroute2."""

    library: str
    mode: str
    configs: list[dict[str, Any]]
    plugin_dirs: list[str]
    own_dns: bool


class SecretsJob(TypedDict):
    """The secrets, in the order of their bytes.

    ``files`` are name, mode, owner, group and size; ``variables``, which follow them, name and size.
    """

    files: list[tuple[str, int, int, int, int]]
    variables: list[tuple[str, int]]


class Job(TypedDict):
    """One run, as the supervised child gets it: the plan's parts with real paths.

    ``spec`` is the OCI runtime configuration. ``state`` is the runtime's state directory. ``terminal`` is its width and
    height; ``seccomp`` is the compiled filter in hexadecimal; ``locks`` is how many descriptors are only to be held
    open. ``config`` is the directory of config.json, where that is not the bundle.
    """

    isolation: str
    spec: dict[str, Any]
    rootfs: str
    bundle: str
    state: str
    runtime: str
    runtime_flags: list[str]
    no_pivot: bool
    container_id: str
    runtime_timeout: float | None
    network: NotRequired[NetworkJob]
    terminal: NotRequired[list[int]]
    seccomp: NotRequired[str]
    locks: NotRequired[int]
    secrets: NotRequired[SecretsJob]
    config: NotRequired[str]


class Answer(TypedDict, total=False):
    """The answer to a job: fields of :class:`run_step.RunResult`, or what went wrong.

    ``error``: the step could not be started; ``setup``: its own process could not become the command.
    """

    status: int
    cancelled: bool
    user_us: int
    system_us: int
    max_rss: int
    measured: str
    peak_memory: int | None
    read_bytes: int | None
    write_bytes: int | None
    oom_kills: int
    warnings: list[str]
    error: str
    setup: str


def send(sock: socket.socket, value: Job | Answer) -> None:
    """Send one message, a JSON value."""
    raw = json.dumps(value).encode()
    sock.sendall(LENGTH.pack(len(raw)) + raw)


def receive(sock: socket.socket) -> bytes:
    """Return the bytes of one message. Raises EOFError when the other end has gone."""
    size = LENGTH.unpack(_exactly(sock, LENGTH.size))[0]
    return _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError("the builder went away")
        data += chunk
    return data
