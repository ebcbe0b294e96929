"""The options of a build: what a caller asks for, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from run_step import RunRequest, Secret
    from run_step.ssh import Agent

ENTITLEMENTS = ("network.host",)
"""The names that ``allow`` takes, as in docker buildx."""


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
    old builder and buildah; BuildKit keeps them. ``allow`` holds entitlements (:data:`ENTITLEMENTS`): a
    ``RUN --network=host`` needs ``network.host`` where ``run_defaults`` asks for another network than the host's.
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
    """What to build, and how. The options of :class:`EngineOptions` are given by keyword."""

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
