"""The options of RUN steps as texts, in the way that a command line has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from run_step import (
    HostError,
    RequestError,
    Resources,
    RunRequest,
    Secret,
    option_checks,
    parse_secret,
    parse_ssh,
    security_options,
)

from ..errors import BuildError

if TYPE_CHECKING:
    from run_step.ssh import Agent

T = TypeVar("T")


class RunOptions(TypedDict, total=False):
    """The keywords of :func:`run_defaults`, each named after the option of ``buildfront build`` (see docs/cli.md).

    Options that repeat are tuples; sizes are texts such as ``64m``.
    """

    isolation: str
    runtime: str
    runtime_flags: tuple[str, ...]
    no_pivot: bool
    network: str
    cni_config_dirs: tuple[str, ...]
    cni_plugin_dirs: tuple[str, ...]
    add_hosts: tuple[str, ...]
    dns: tuple[str, ...]
    dns_search: tuple[str, ...]
    dns_options: tuple[str, ...]
    no_hosts: bool
    no_hostname: bool
    hostname: str
    volumes: tuple[str, ...]
    mounts: tuple[str, ...]
    ulimits: tuple[str, ...]
    shm_size: str
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    security_opts: tuple[str, ...]
    devices: tuple[str, ...]
    cdi_spec_dirs: tuple[str, ...]
    hooks_dirs: tuple[str, ...]
    group_add: tuple[str, ...]
    userns: str
    userns_uid_map: tuple[str, ...]
    userns_gid_map: tuple[str, ...]
    ipc: str
    pid: str
    uts: str
    cgroupns: str
    http_proxy: bool
    memory: str
    memory_swap: str
    cpu_period: int
    cpu_quota: int
    cpu_shares: int
    cpuset_cpus: str
    cpuset_mems: str
    pids: int
    cgroup_parent: str


_NAMESPACES = {"userns": "user", "ipc": "ipc", "pid": "pid", "uts": "uts", "cgroupns": "cgroup"}
_SIZES = ("memory", "memory_swap")
_RESOURCES = (
    *_SIZES,
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpuset_cpus",
    "cpuset_mems",
    "pids",
    "cgroup_parent",
)


def run_defaults(**options: Unpack[RunOptions]) -> RunRequest:
    """Return the request that :attr:`BuildOptions.run_defaults` takes: the options that every RUN step gets.

    What is not given is as on the command line. The texts are checked, and files that ``security_opts`` names are
    read. Nothing else is touched.

        options = BuildOptions(run_defaults=run_defaults(memory="1g", ulimits=("nofile=1024",)))

    Raises:
        BuildError: An option is malformed; the message quotes it. The status is 2.
    """
    given: dict[str, Any] = {"isolation": "auto", "http_proxy": True, **options}
    try:
        spaces = [(kind, given.pop(name, "")) for name, kind in _NAMESPACES.items()]
        resources = {name: given.pop(name) for name in _RESOURCES if name in given}
        for name in _SIZES:
            if resources.get(name):
                resources[name] = option_checks.size(resources[name], f"--{name.replace('_', '-')}")
        uid_map, gid_map = (
            tuple(
                option_checks.id_map(text, f"--userns-{kind}-map")
                for text in given.pop(f"userns_{kind}_map", ())
            )
            for kind in ("uid", "gid")
        )
        security = given.pop("security_opts", ())
        request = RunRequest(
            args=("",),
            rootfs="/",
            resources=Resources(**{name: value for name, value in resources.items() if value}),
            namespaces=tuple(option_checks.namespace(kind, text) for kind, text in spaces if text),
            terminal="without",
            uid_map=uid_map,
            gid_map=gid_map,
            **given,
        )
        request = security_options(security, request)
        option_checks.options(request)
    except (RequestError, HostError) as error:
        raise BuildError(str(error), status=2) from None
    return request


def read_secrets(texts: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, Secret]:
    """Return the secrets of ``id=ID[,src=FILE|,env=VARIABLE]``, by id, as :attr:`BuildOptions.secrets` takes them.

    Files and variables are read now. ``environ`` is by default this process's environment.

    Raises:
        BuildError: A text is malformed, an id is given twice, or a file or variable is missing. The status is 2.
    """
    return _by_id(texts, "--secret", parse_secret, environ)


def open_agents(texts: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, Agent]:
    """Return the SSH agents of ``default|ID[=SOCKET|KEY[,KEY...]]``, by id, as :attr:`BuildOptions.agents` takes them.

    Keys are read now. An id without a value is the agent at ``SSH_AUTH_SOCK`` of ``environ``, by default this
    process's environment.

    Raises:
        BuildError: A text is malformed, an id is given twice, or there is no such agent or key. The status is 2.
    """
    return _by_id(texts, "--ssh", parse_ssh, environ)


def _by_id(
    texts: Iterable[str],
    flag: str,
    parse: Callable[[str, Mapping[str, str]], tuple[str, T]],
    environ: Mapping[str, str] | None,
) -> dict[str, T]:
    found: dict[str, T] = {}
    for text in texts:
        try:
            name, value = parse(text, os.environ if environ is None else environ)
        except (RequestError, HostError) as error:
            raise BuildError(f"{flag}: {error}", status=2) from None
        if name in found:
            raise BuildError(f"{flag}: the id {name!r} is given twice", status=2)
        found[name] = value
    return found
