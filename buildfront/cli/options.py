"""The options that build, plan and spec share, declared once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import BuildError

if TYPE_CHECKING:
    from ..options import BuildOptions

F = TypeVar("F", bound=Callable[..., Any])


class GroupedCommand(click.Command):
    """``--help`` with the options under headings. A misspelt option is answered with the nearest one by click."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(HEADINGS.get(parameter.name or "", "Other"), []).append(record)
        for heading in ("Image", "Cache", "Output", "Run", "RUN step", "Other"):
            if heading in groups:
                with formatter.section(heading):
                    formatter.write_dl(groups[heading])


HEADINGS: dict[str, str] = {}


def _option(heading: str, *names: str, **settings: Any) -> Callable[[F], F]:
    option = click.option(*names, **settings)

    def apply(function: F) -> F:
        name = settings.get("dest_name") or next(
            (item for item in names if not item.startswith("-")),
            max(names, key=len).split("/")[0].lstrip("-"),
        )
        HEADINGS[name.replace("-", "_")] = heading
        return option(function)

    return apply


_IMAGE = (
    _option(
        "Image", "-f", "--file", "dockerfile", default="", metavar="FILE", help="the Dockerfile; - is stdin"
    ),
    _option(
        "Image", "-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="name the image (repeats)"
    ),
    _option("Image", "--target", default="", metavar="STAGE", help="build this stage"),
    _option("Image", "--platform", default="", metavar="OS/ARCH", help="build for this platform"),
    _option("Image", "--label", "labels", multiple=True, metavar="NAME=VALUE", help="add a label (repeats)"),
    _option(
        "Image",
        "--build-arg",
        "build_args",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="set an ARG (repeats)",
    ),
    _option(
        "Image", "--build-context", "contexts", multiple=True, metavar="NAME=PLACE", help="a named context"
    ),
    _option(
        "Image",
        "--pull",
        "pull",
        is_flag=False,
        flag_value="always",
        default="missing",
        metavar="[missing|always|never|newer]",
        help="when to ask the registry for base images",
    ),
    _option("Image", "--ignorefile", default="", metavar="FILE", help="use this instead of .dockerignore"),
)
_CACHE = (
    _option("Cache", "--no-cache", is_flag=True, help="run every step"),
    _option(
        "Cache",
        "--no-cache-filter",
        multiple=True,
        metavar="STAGE",
        help="run every step of a stage (repeats)",
    ),
)
_STEP = (
    _option(
        "RUN step",
        "--isolation",
        default="auto",
        envvar="BUILDFRONT_ISOLATION",
        metavar="[auto|oci|rootless|chroot]",
        help="how RUN is isolated",
    ),
    _option("RUN step", "--runtime", default="", metavar="NAME", help="the OCI runtime"),
    _option(
        "RUN step", "--runtime-flag", "runtime_flags", multiple=True, help="a global flag for it (repeats)"
    ),
    _option("RUN step", "--no-pivot", is_flag=True, help="do not use pivot_root in the OCI runtime"),
    _option(
        "RUN step",
        "--network",
        default="default",
        metavar="MODE",
        help="default, none, host, private, bridge, slirp4netns, pasta, ns:PATH, or names of CNI networks",
    ),
    _option(
        "RUN step",
        "--cni-config-dir",
        "cni_config_dirs",
        multiple=True,
        metavar="DIR",
        help="where CNI networks are described",
    ),
    _option(
        "RUN step",
        "--cni-plugin-path",
        "cni_plugin_dirs",
        multiple=True,
        metavar="DIR",
        help="where CNI plugins are",
    ),
    _option(
        "RUN step",
        "--allow",
        multiple=True,
        metavar="ENTITLEMENT",
        help="network.host: RUN --network=host is allowed whatever --network says",
    ),
    _option(
        "RUN step",
        "--add-host",
        "add_hosts",
        multiple=True,
        metavar="NAME:ADDRESS",
        help="a line in /etc/hosts",
    ),
    _option(
        "RUN step", "--dns", multiple=True, metavar="ADDRESS", help="a name server; none keeps the image's"
    ),
    _option("RUN step", "--dns-search", multiple=True, metavar="DOMAIN", help="a search domain"),
    _option(
        "RUN step", "--dns-option", "dns_options", multiple=True, metavar="OPTION", help="a resolver option"
    ),
    _option("RUN step", "--no-hosts", is_flag=True, help="leave the image's /etc/hosts alone"),
    _option("RUN step", "--no-hostname", is_flag=True, help="leave the image's /etc/hostname alone"),
    _option("RUN step", "--hostname", default="", help="the hostname of the steps"),
    _option(
        "RUN step", "-v", "--volume", "volumes", multiple=True, metavar="HOST:PATH[:OPTS]", help="bind a path"
    ),
    _option(
        "RUN step", "--mount", "mounts", multiple=True, metavar="type=…,…", help="type=bind or type=tmpfs"
    ),
    _option(
        "RUN step",
        "--secret",
        "secrets",
        multiple=True,
        metavar="id=ID[,src=FILE|,env=VAR]",
        help="a secret for RUN --mount=type=secret (repeats)",
    ),
    _option(
        "RUN step",
        "--ssh",
        "agents",
        multiple=True,
        metavar="default|ID[=SOCKET|KEY]",
        help="an SSH agent or keys for RUN --mount=type=ssh (repeats)",
    ),
    _option(
        "RUN step",
        "--compat-volumes",
        is_flag=True,
        help="throw away what a step writes into a declared VOLUME",
    ),
    _option(
        "RUN step", "--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="a resource limit"
    ),
    _option("RUN step", "--shm-size", default="", metavar="SIZE", help="size of /dev/shm"),
    _option("RUN step", "--cap-add", multiple=True, metavar="NAME", help="add a capability"),
    _option("RUN step", "--cap-drop", multiple=True, metavar="NAME", help="drop a capability"),
    _option(
        "RUN step",
        "--security-opt",
        "security_opts",
        multiple=True,
        metavar="OPT",
        help="seccomp=FILE and so on",
    ),
    _option(
        "RUN step",
        "--device",
        "devices",
        multiple=True,
        metavar="PATH[:PATH][:rwm]",
        help="a device or CDI name",
    ),
    _option(
        "RUN step",
        "--cdi-spec-dir",
        "cdi_spec_dirs",
        multiple=True,
        metavar="DIR",
        help="where CDI is described",
    ),
    _option(
        "RUN step", "--hooks-dir", "hooks_dirs", multiple=True, metavar="DIR", help="OCI hook definitions"
    ),
    _option(
        "RUN step", "--group-add", multiple=True, metavar="GROUP", help="an additional group, or keep-groups"
    ),
    _option("RUN step", "--userns", default="", metavar="[host|private|PATH]", help="the user namespace"),
    _option("RUN step", "--userns-uid-map", multiple=True, metavar="C:H:SIZE", help="map user IDs (repeats)"),
    _option(
        "RUN step", "--userns-gid-map", multiple=True, metavar="C:H:SIZE", help="map group IDs (repeats)"
    ),
    _option("RUN step", "--ipc", default="", metavar="[host|private|PATH]", help="the IPC namespace"),
    _option("RUN step", "--pid", default="", metavar="[host|private|PATH]", help="the PID namespace"),
    _option("RUN step", "--uts", default="", metavar="[host|private|PATH]", help="the UTS namespace"),
    _option("RUN step", "--cgroupns", default="", metavar="[host|private|PATH]", help="the cgroup namespace"),
    _option(
        "RUN step", "--http-proxy/--no-http-proxy", "http_proxy", default=True, help="pass proxy variables on"
    ),
    _option("RUN step", "-m", "--memory", default="", metavar="SIZE", help="limit the memory of a step"),
    _option(
        "RUN step", "--memory-swap", default="", metavar="SIZE", help="limit of memory and swap; -1 is none"
    ),
    _option("RUN step", "--cpu-period", type=int, default=0, metavar="US", help="CFS period"),
    _option("RUN step", "--cpu-quota", type=int, default=0, metavar="US", help="CFS quota"),
    _option("RUN step", "-c", "--cpu-shares", type=int, default=0, help="relative CPU weight"),
    _option("RUN step", "--cpuset-cpus", default="", metavar="LIST", help="the CPUs that may be used"),
    _option(
        "RUN step", "--cpuset-mems", default="", metavar="LIST", help="the memory nodes that may be used"
    ),
    _option(
        "RUN step",
        "--pids-limit",
        "pids",
        type=int,
        default=0,
        metavar="N",
        help="processes at one time; -1 is any",
    ),
    _option("RUN step", "--cgroup-parent", default="", metavar="PATH", help="the parent cgroup"),
)


def shared(function: F) -> F:
    """All options that build, plan and spec have in common, and the context argument."""
    for option in reversed((*_IMAGE, *_CACHE, *_STEP)):
        function = option(function)
    return click.argument("context", default=".", required=False)(function)


def _pairs(texts: tuple[str, ...], flag: str) -> list[tuple[str, str]]:
    out = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise BuildError(f"{flag} {text!r}: the form is NAME=VALUE", status=2)
        out.append((name, value))
    return out


def build_args(texts: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE``, or ``NAME`` with the value of our own environment, as docker does."""
    import os

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


_STEP_DEFAULTS = {"isolation": "auto", "network": "default", "http_proxy": True}
_STEP_NAMES = (
    "isolation runtime runtime_flags no_pivot network add_hosts dns dns_search dns_options no_hosts no_hostname"
    " hostname volumes mounts ulimits shm_size cap_add cap_drop http_proxy devices cdi_spec_dirs hooks_dirs group_add"
    " cni_config_dirs cni_plugin_dirs"
).split()
_NAMESPACES = {"userns": "user", "ipc": "ipc", "pid": "pid", "uts": "uts", "cgroupns": "cgroup"}
_RESOURCES = (
    "memory memory_swap cpu_period cpu_quota cpu_shares cpuset_cpus cpuset_mems pids cgroup_parent".split()
)


def run_defaults(values: dict[str, Any], *, always: bool = False) -> Any:
    """The RunRequest that carries the RUN options; None when none differs from its default (and not ``always``).

    Raises BuildError for a malformed value, before anything is touched.
    """
    given = {name: values[name] for name in _STEP_NAMES if values[name] not in ((), "", False)}
    resources = {name: values[name] for name in _RESOURCES if values[name]}
    spaces = {kind: values[flag] for flag, kind in _NAMESPACES.items() if values[flag]}
    maps = values["userns_uid_map"] or values["userns_gid_map"]
    plain = given == _STEP_DEFAULTS and not (resources or spaces or maps or values["security_opts"])
    if plain and not always:
        return None
    from run_step import HostError, RequestError, Resources, RunRequest, option_checks, security_options

    try:
        for name in ("memory", "memory_swap"):
            if name in resources:
                resources[name] = option_checks.size(resources[name], f"--{name.replace('_', '-')}")
        request = RunRequest(
            args=("",),
            rootfs="/",
            resources=Resources(**resources),
            namespaces=tuple(option_checks.namespace(kind, text) for kind, text in spaces.items()),
            uid_map=tuple(
                option_checks.id_map(text, "--userns-uid-map") for text in values["userns_uid_map"]
            ),
            gid_map=tuple(
                option_checks.id_map(text, "--userns-gid-map") for text in values["userns_gid_map"]
            ),
            terminal="without",
            **given,
        )
        request = security_options(values["security_opts"], request)
        option_checks.options(request)
    except (RequestError, HostError) as error:
        raise BuildError(str(error), status=2) from None
    return request


def _credentials(texts: tuple[str, ...], flag: str) -> dict[str, Any]:
    """What ``--secret`` or ``--ssh`` name, read now, by id. Raises BuildError."""
    if not texts:
        return {}
    import os

    from run_step import HostError, RequestError, parse_secret, parse_ssh

    found: dict[str, Any] = {}
    for text in texts:
        try:
            name, value = (parse_secret if flag == "--secret" else parse_ssh)(text, os.environ)
        except (RequestError, HostError) as error:
            raise BuildError(f"{flag}: {error}", status=2) from None
        if name in found:
            raise BuildError(f"{flag}: the id {name!r} is given twice", status=2)
        found[name] = value
    return found


def to_options(values: dict[str, Any], root: str | None, **more: Any) -> BuildOptions:
    """What click read, as BuildOptions. Raises BuildError with status 2 for a malformed value."""
    from ..options import BuildOptions
    from ..resolve import PULL

    if values["pull"] not in PULL:
        raise BuildError(f"--pull={values['pull']}: known are {', '.join(PULL)}", status=2)
    return BuildOptions(
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
        secrets=_credentials(values["secrets"], "--secret"),
        agents=_credentials(values["agents"], "--ssh"),
        compat_volumes=values["compat_volumes"],
        allow=values["allow"],
        root=root,
        **more,
    )
