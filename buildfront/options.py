"""The options of a build: what a caller asks for, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .errors import BuildError, nearest

if TYPE_CHECKING:
    from run_step import RunRequest, Secret
    from run_step.ssh import Agent

ENTITLEMENTS = ("network.host", "security.insecure", "device")
"""The names that ``allow`` takes, as in docker buildx; ``device=NAME`` is one device."""

PULL = ("missing", "always", "never", "newer")
"""The values of ``pull``: when a registry is asked for base images."""

COMPRESSIONS = ("gzip", "zstd", "uncompressed")
_LEVELS = {"gzip": 9, "zstd": 22}
"""How new layers are compressed."""


class Output(NamedTuple):
    """One output of a build.

    A ``dest`` of ``-`` is standard output; ``tar`` false writes an OCI layout as a directory; ``push`` sends the image
    to its registry.
    """

    type: str
    dest: str = ""
    tar: bool = True
    push: bool = False
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How the steps of a build are carried out.

    ``run_defaults`` holds the options that every RUN gets; its command and root filesystem are replaced. None means
    the defaults. ``run_step`` is the name of the executor's entry point. ``jobs`` is the number of steps that run at
    the same time; 0 chooses. ``no_cache_filter`` are names or numbers of stages that are built without the cache.

    ``stdin`` is a descriptor that RUN steps may read, one step at a time. No RUN is answered from the cache then,
    because what it reads is not known. ``secrets`` and ``agents`` are what ``RUN --mount=type=secret`` and ``ssh`` may
    ask for, by id. With ``compat_volumes``, changes of a RUN in a declared VOLUME are dropped after it, as in docker's
    old builder and buildah; BuildKit keeps them. ``allow`` holds entitlements (:data:`ENTITLEMENTS`), which a
    ``RUN --network=host``, ``--security=insecure`` or ``--device`` needs.
    """

    jobs: int = 0
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    run_defaults: RunRequest | None = None
    run_step: str = "local"
    compression: str = "gzip"
    compression_level: int | None = None
    timeout: float | None = None
    stdin: int | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    compat_volumes: bool = False
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildOptions(EngineOptions):
    """The options of a build. All have defaults.

    Attributes:
        context: The build context: a directory, a tar archive, the URL of an archive, of a Dockerfile or of a git
            repository, or ``-`` for an archive or a Dockerfile on standard input.
        dockerfile: The path of the Dockerfile, or ``-`` for standard input. By default it is ``Dockerfile`` or
            ``Containerfile`` in the context.
        ignorefile: The ignore file, instead of ``.containerignore`` or ``.dockerignore`` in the context.
        tags: The names of the image.
        target: The stage to build, by its name or number; by default the last one.
        platform: ``os/architecture[/variant]``; by default this machine's.
        build_args: Values of ``ARG`` instructions, by name.
        labels: Names and values of labels to add.
        contexts: Named contexts: directories, archives, URLs, git repositories, ``oci-layout://PATH`` or
            ``docker-image://REF``, by name.
        pull: When to ask a registry for base images, one of :data:`PULL`. ``missing`` asks for images that the store
            lacks, ``always`` asks first, ``newer`` also does and falls back to the store, ``never`` does not ask.
        outputs: Where to write the image, besides the store. See :func:`parse_output`.
        root: The path of the store; None is :func:`default_root`.
        jobs: The number of steps that run at the same time; 0 chooses.
        no_cache: Run every step.
        no_cache_filter: Run every step of the stages with these names or numbers.
        run_defaults: The options that every RUN step gets, from :func:`run_defaults`. None is their defaults.
        run_step: The entry point of the RUN executor, in the group ``buildfront.run_step``.
        compression: How new layers are compressed, one of :data:`COMPRESSIONS`.
        compression_level: How hard to compress: 0 to 9 with gzip, 0 to 22 with zstd; None is the default.
        timeout: The most seconds that a step may take.
        stdin: A descriptor that RUN steps may read, one after the other. No RUN is answered from the cache then.
        secrets: The secrets that ``RUN --mount=type=secret`` may ask for, by id, from :func:`read_secrets`.
        agents: The agents that ``RUN --mount=type=ssh`` may ask for, by id, from :func:`open_agents`.
        compat_volumes: Drop the changes of a RUN step in declared volumes, as docker's old builder and buildah do.
        allow: Entitlements, of :data:`ENTITLEMENTS`. ``network.host`` allows ``RUN --network=host`` (which needs none
            where ``run_defaults`` asks for the host's network), ``security.insecure`` allows
            ``RUN --security=insecure``, ``device`` and ``device=NAME`` allow ``RUN --device``.

    Raises:
        BuildError: ``pull``, ``compression``, ``compression_level`` or ``allow`` has an unknown value. The status is 2.
    """

    context: str = "."
    dockerfile: str = ""
    ignorefile: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    platform: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)
    pull: str = "missing"
    outputs: tuple[Output, ...] = ()
    root: str | None = None

    def __post_init__(self) -> None:
        if self.pull not in PULL:
            raise BuildError(f"--pull={self.pull}: known are {', '.join(PULL)}", status=2)
        if self.compression not in COMPRESSIONS:
            raise BuildError(
                f"unknown compression {self.compression!r}",
                hint=f"known are {', '.join(COMPRESSIONS)}",
                status=2,
            )
        highest = _LEVELS.get(self.compression)
        if highest is not None and not 0 <= (self.compression_level or 0) <= highest:
            raise BuildError(
                f"--compression-level {self.compression_level}: {self.compression} has the levels 0 to {highest}",
                status=2,
            )
        for name in self.allow:
            if name not in ENTITLEMENTS and not name.startswith("device="):
                known = nearest(name, ENTITLEMENTS) or f"known are {', '.join(ENTITLEMENTS)}"
                raise BuildError(f"--allow {name}: unknown entitlement", hint=known, status=2)
