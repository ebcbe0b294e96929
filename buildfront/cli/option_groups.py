"""The options that build, plan and spec share, declared once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

import buildfront
from buildfront import BuildError

if TYPE_CHECKING:
    from buildfront import BuildOptions

F = TypeVar("F", bound=Callable[..., Any])

_HEADINGS = ("Image", "Cache", "Output", "Run", "RUN step", "Other")


class GroupedCommand(click.Command):
    """A command whose ``--help`` has its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into ``--help``, under their headings."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "heading", "Other"), []).append(record)
        for heading in _HEADINGS:
            if heading in groups:
                with formatter.section(heading):
                    formatter.write_dl(groups[heading])


class _Option(click.Option):
    """An option that knows its heading in ``--help``."""

    def __init__(self, *names: Any, heading: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.heading = heading


def option(heading: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """Return a decorator like click.option, for an option under ``heading``."""
    return click.option(*names, cls=_Option, heading=heading, **settings)


_FILE = option(
    "Image", "-f", "--file", "dockerfile", default="", metavar="FILE", help="the Dockerfile; - is stdin"
)
_CHOICE = (
    option("Image", "--target", default="", metavar="STAGE", help="build this stage"),
    option("Image", "--platform", default="", metavar="OS/ARCH", help="build for this platform"),
)
_ARGS = (
    option(
        "Image",
        "--build-arg",
        "build_args",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="set an ARG (repeats)",
    ),
    option(
        "Image", "--build-context", "contexts", multiple=True, metavar="NAME=PLACE", help="a named context"
    ),
)
_IGNORE = option(
    "Image", "--ignorefile", default="", metavar="FILE", help="use this instead of .dockerignore"
)
_IMAGE = (
    _FILE,
    option(
        "Image", "-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="name the image (repeats)"
    ),
    *_CHOICE,
    option("Image", "--label", "labels", multiple=True, metavar="NAME=VALUE", help="add a label (repeats)"),
    *_ARGS,
    option(
        "Image",
        "--pull",
        "pull",
        is_flag=False,
        flag_value="always",
        default="missing",
        metavar="[missing|always|never|newer]",
        help="when to ask the registry for base images",
    ),
    _IGNORE,
)
_CACHE = (
    option("Cache", "--no-cache", is_flag=True, help="run every step"),
    option(
        "Cache",
        "--no-cache-filter",
        multiple=True,
        metavar="STAGE",
        help="run every step of a stage (repeats)",
    ),
)
_STEP = (
    option(
        "RUN step",
        "--isolation",
        default="auto",
        envvar="BUILDFRONT_ISOLATION",
        metavar="[auto|oci|rootless|chroot]",
        help="how RUN is isolated",
    ),
    option("RUN step", "--runtime", default="", metavar="NAME", help="the OCI runtime"),
    option(
        "RUN step", "--runtime-flag", "runtime_flags", multiple=True, help="a global flag for it (repeats)"
    ),
    option("RUN step", "--no-pivot", is_flag=True, help="do not use pivot_root in the OCI runtime"),
    option(
        "RUN step",
        "--network",
        default="default",
        metavar="MODE",
        help="default, none, host, private, bridge, slirp4netns, pasta, ns:PATH, or names of CNI networks",
    ),
    option(
        "RUN step",
        "--cni-config-dir",
        "cni_config_dirs",
        multiple=True,
        metavar="DIR",
        help="where CNI networks are described",
    ),
    option(
        "RUN step",
        "--cni-plugin-path",
        "cni_plugin_dirs",
        multiple=True,
        metavar="DIR",
        help="where CNI plugins are",
    ),
    option(
        "RUN step",
        "--allow",
        multiple=True,
        metavar="ENTITLEMENT",
        help="what RUN may ask for: network.host, security.insecure, device, device=NAME",
    ),
    option(
        "RUN step",
        "--add-host",
        "add_hosts",
        multiple=True,
        metavar="NAME:ADDRESS",
        help="a line in /etc/hosts",
    ),
    option(
        "RUN step", "--dns", multiple=True, metavar="ADDRESS", help="a name server; none keeps the image's"
    ),
    option("RUN step", "--dns-search", multiple=True, metavar="DOMAIN", help="a search domain"),
    option(
        "RUN step", "--dns-option", "dns_options", multiple=True, metavar="OPTION", help="a resolver option"
    ),
    option("RUN step", "--no-hosts", is_flag=True, help="leave the image's /etc/hosts alone"),
    option("RUN step", "--no-hostname", is_flag=True, help="leave the image's /etc/hostname alone"),
    option("RUN step", "--hostname", default="", help="the hostname of the steps"),
    option(
        "RUN step", "-v", "--volume", "volumes", multiple=True, metavar="HOST:PATH[:OPTS]", help="bind a path"
    ),
    option(
        "RUN step", "--mount", "mounts", multiple=True, metavar="type=…,…", help="type=bind or type=tmpfs"
    ),
    option(
        "RUN step",
        "--secret",
        "secrets",
        multiple=True,
        metavar="id=ID[,src=FILE|,env=VAR]",
        help="a secret for RUN --mount=type=secret (repeats)",
    ),
    option(
        "RUN step",
        "--ssh",
        "agents",
        multiple=True,
        metavar="default|ID[=SOCKET|KEY]",
        help="an SSH agent or keys for RUN --mount=type=ssh (repeats)",
    ),
    option(
        "RUN step",
        "--compat-volumes",
        is_flag=True,
        help="throw away what a step writes into a declared VOLUME",
    ),
    option(
        "RUN step", "--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="a resource limit"
    ),
    option("RUN step", "--shm-size", default="", metavar="SIZE", help="size of /dev/shm"),
    option("RUN step", "--cap-add", multiple=True, metavar="NAME", help="add a capability"),
    option("RUN step", "--cap-drop", multiple=True, metavar="NAME", help="drop a capability"),
    option(
        "RUN step",
        "--security-opt",
        "security_opts",
        multiple=True,
        metavar="OPT",
        help="seccomp=FILE and so on",
    ),
    option(
        "RUN step",
        "--device",
        "devices",
        multiple=True,
        metavar="PATH[:PATH][:rwm]",
        help="a device or CDI name",
    ),
    option(
        "RUN step",
        "--cdi-spec-dir",
        "cdi_spec_dirs",
        multiple=True,
        metavar="DIR",
        help="where CDI is described",
    ),
    option(
        "RUN step", "--hooks-dir", "hooks_dirs", multiple=True, metavar="DIR", help="OCI hook definitions"
    ),
    option(
        "RUN step", "--group-add", multiple=True, metavar="GROUP", help="an additional group, or keep-groups"
    ),
    option("RUN step", "--userns", default="", metavar="[host|private|PATH]", help="the user namespace"),
    option("RUN step", "--userns-uid-map", multiple=True, metavar="C:H:SIZE", help="map user IDs (repeats)"),
    option("RUN step", "--userns-gid-map", multiple=True, metavar="C:H:SIZE", help="map group IDs (repeats)"),
    option("RUN step", "--ipc", default="", metavar="[host|private|PATH]", help="the IPC namespace"),
    option("RUN step", "--pid", default="", metavar="[host|private|PATH]", help="the PID namespace"),
    option("RUN step", "--uts", default="", metavar="[host|private|PATH]", help="the UTS namespace"),
    option("RUN step", "--cgroupns", default="", metavar="[host|private|PATH]", help="the cgroup namespace"),
    option(
        "RUN step", "--http-proxy/--no-http-proxy", "http_proxy", default=True, help="pass proxy variables on"
    ),
    option("RUN step", "-m", "--memory", default="", metavar="SIZE", help="limit the memory of a step"),
    option(
        "RUN step", "--memory-swap", default="", metavar="SIZE", help="limit of memory and swap; -1 is none"
    ),
    option("RUN step", "--cpu-period", type=int, default=0, metavar="US", help="CFS period"),
    option("RUN step", "--cpu-quota", type=int, default=0, metavar="US", help="CFS quota"),
    option("RUN step", "-c", "--cpu-shares", type=int, default=0, help="relative CPU weight"),
    option("RUN step", "--cpuset-cpus", default="", metavar="LIST", help="the CPUs that may be used"),
    option("RUN step", "--cpuset-mems", default="", metavar="LIST", help="the memory nodes that may be used"),
    option(
        "RUN step",
        "--pids-limit",
        "pids",
        type=int,
        default=0,
        metavar="N",
        help="processes at one time; -1 is any",
    ),
    option("RUN step", "--cgroup-parent", default="", metavar="PATH", help="the parent cgroup"),
)


def shared(function: F) -> F:
    """Add the options that build, plan and spec have in common, and the context argument."""
    for declared in reversed((*_IMAGE, *_CACHE, *_STEP)):
        function = declared(function)
    return click.argument("context", default=".", required=False)(function)


def of_text(function: F) -> F:
    """Add the options that say which Dockerfile is meant and what it is given, and the context argument."""
    for declared in reversed((_FILE, *_CHOICE, *_ARGS, _IGNORE)):
        function = declared(function)
    return click.argument("context", default=".", required=False)(function)


def text_options(values: dict[str, Any], root: str) -> BuildOptions:
    """Return the options of a build for those of :func:`of_text`. Raises BuildError with status 2."""
    return buildfront.BuildOptions(
        context=values["context"],
        dockerfile=values["dockerfile"],
        ignorefile=values["ignorefile"],
        target=values["target"],
        platform=values["platform"],
        build_args=build_args(values["build_args"]),
        contexts=dict(_pairs(values["contexts"], "--build-context")),
        root=root,
    )


def _pairs(texts: tuple[str, ...], flag: str) -> list[tuple[str, str]]:
    out = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise BuildError(f"{flag} {text!r}: the form is NAME=VALUE", status=2)
        out.append((name, value))
    return out


def build_args(texts: tuple[str, ...]) -> dict[str, str]:
    """Return the values of ``NAME=VALUE``; of ``NAME``, that of our own environment, as docker does."""
    out = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise BuildError(f"--build-arg {text!r}: the form is NAME=VALUE", status=2)
        if equals:
            out[name] = value
        elif name in os.environ:
            out[name] = os.environ[name]
    return out


RUN_OPTIONS = (
    "isolation runtime runtime_flags no_pivot network cni_config_dirs cni_plugin_dirs add_hosts dns dns_search"
    " dns_options no_hosts no_hostname hostname volumes mounts ulimits shm_size cap_add cap_drop security_opts devices"
    " cdi_spec_dirs hooks_dirs group_add userns userns_uid_map userns_gid_map ipc pid uts cgroupns http_proxy memory"
    " memory_swap cpu_period cpu_quota cpu_shares cpuset_cpus cpuset_mems pids cgroup_parent"
).split()
"""The names of the options that :func:`buildfront.run_defaults` takes."""

_DEFAULTS = {"isolation": "auto", "network": "default", "http_proxy": True}
"""The options of RUN steps that have a value when they are not given."""


def _run_options(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options of RUN steps that were given, as :func:`buildfront.run_defaults` takes them."""
    given = {name: values[name] for name in RUN_OPTIONS}
    return {
        name: value
        for name, value in given.items()
        if name == "http_proxy" or value not in ((), "", 0, False)
    }


def build_options(
    values: dict[str, Any], root: str, *, run_options: bool = False, **more: Any
) -> BuildOptions:
    """Return the options of a build for what click read; ``more`` are those that not all commands have.

    With ``run_options``, the options of RUN steps are filled in where none was given, too. Raises BuildError with
    status 2 for a malformed value, before anything is touched.
    """
    given = _run_options(values)
    defaults = buildfront.run_defaults(**given) if run_options or given != _DEFAULTS else None
    return buildfront.BuildOptions(
        context=values["context"],
        dockerfile=values["dockerfile"],
        ignorefile=values["ignorefile"],
        tags=values["tags"],
        target=values["target"],
        platform=values["platform"],
        build_args=build_args(values["build_args"]),
        labels=tuple(_pairs(values["labels"], "--label")),
        contexts=dict(_pairs(values["contexts"], "--build-context")),
        pull=values["pull"],
        no_cache=values["no_cache"],
        no_cache_filter=values["no_cache_filter"],
        run_defaults=defaults,
        secrets=buildfront.read_secrets(values["secrets"]) if values["secrets"] else {},
        agents=buildfront.open_agents(values["agents"]) if values["agents"] else {},
        compat_volumes=values["compat_volumes"],
        allow=values["allow"],
        root=root,
        **more,
    )
