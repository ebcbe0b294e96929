"""The options that change a graph, and the names that the Dockerfile reference predefines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import BuildError
from ..image import reference as references

PROXY_ARGS = frozenset(
    name
    for base in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (base, base.upper())
)
"""Predefined build arguments that need no ARG and never count for the cache (Dockerfile reference)."""

_LAST_SECOND = 253402300799
"""The end of the year 9999, after which RFC 3339 has no form for a time."""

HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
"""The hostname of RUN steps."""

CACHE_NAMES = "BUILDKIT_CACHE_MOUNT_NS"
"""A name that stands before the id of each cache mount."""

EPOCH = "SOURCE_DATE_EPOCH"
"""The time that the image is to have, in seconds (reproducible-builds.org)."""

BUILDKIT_ARGS = frozenset(
    (
        "BUILDKIT_BUILD_NAME",
        CACHE_NAMES,
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "BUILDKIT_DOCKERFILE_CHECK",
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_MULTI_PLATFORM",
        HOSTNAME,
        "BUILDKIT_SBOM_SCAN_CONTEXT",
        "BUILDKIT_SBOM_SCAN_STAGE",
        "BUILDKIT_SYNTAX",
        EPOCH,
    )
)
"""Build arguments that are for the builder itself (Dockerfile reference, "BuildKit built-in build args").

An ARG may ask for them as for any other.
"""

NOT_EXPORTED = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))
"""Arguments that an ARG declares for the builder, and that no instruction sees as a variable."""

SCRATCH = "scratch"
"""The name of the empty image (Dockerfile reference, FROM)."""

COPY_FROM = "COPY --from="
MOUNT_FROM = "RUN --mount from="
"""The forms that read another stage, as errors quote them."""


@dataclass(frozen=True)
class NamedContext:
    """``--build-context NAME=...``: ``image`` (a reference or an image layout), or files: ``dir`` and other kinds."""

    kind: str
    value: str


@dataclass(frozen=True)
class GraphOptions:
    """The options of the command line that change the graph.

    Platforms are ``os/arch[/variant]``; ``build_platform`` is the machine's, empty for the same one.
    ``platform_given``: the user asked for ``platform``, which the image has then, whatever its base has.
    """

    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = "linux/amd64"
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()
    build_platform: str = ""
    platform_given: bool = False

    def context(self, name: str) -> str | None:
        """Return the name of the named context that takes the place of the stage or image ``name``, or None.

        The names of images that mean the same are one: ``alpine`` is also for ``docker.io/library/alpine:latest``.
        """
        if not self.contexts or name in self.contexts:
            return name if name in self.contexts else None
        try:
            familiar = references.parse(name).familiar.removesuffix(":latest")
        except BuildError:
            return None
        return familiar if familiar in self.contexts and familiar != SCRATCH else None


def image_key(reference: str, platform: str, default: str) -> str:
    """Return the name that a base image has in a build: its reference, for the build's platform."""
    return reference if platform in ("", default) else f"{reference} on {platform}"


def checked_args(args: Mapping[str, str]) -> dict[str, str]:
    """Return build arguments with SOURCE_DATE_EPOCH as a plain number, or without it where it is empty.

    Raises BuildError where it is anything else.
    """
    out = dict(args)
    text = out.pop(EPOCH, "")
    if text:
        if not re.fullmatch("[+-]?0*[0-9]{1,12}", text, re.ASCII) or not 0 <= int(text) <= _LAST_SECOND:
            raise BuildError(f"{EPOCH}={text}: a whole number of seconds since 1970 is wanted")
        out[EPOCH] = str(int(text))
    return out


def predefined_args(options: GraphOptions, last_stage: str) -> dict[str, str]:
    """Return the arguments that the Dockerfile reference predefines for FROM, and for an ARG that asks for them.

    ``last_stage`` is the name of the last stage, which is built where no target was given. A build argument of the
    same name replaces a value.
    """
    out = {}
    for side, platform in (
        ("BUILD", options.build_platform or options.platform),
        ("TARGET", options.platform),
    ):
        system, _, rest = platform.partition("/")
        arch, _, variant = rest.partition("/")
        parts = {"PLATFORM": platform, "OS": system, "OSVERSION": "", "ARCH": arch, "VARIANT": variant}
        out.update({f"{side}{name}": value for name, value in parts.items()})
    out["TARGETSTAGE"] = options.target or last_stage or "default"
    return {name: options.build_args.get(name, value) for name, value in out.items()}
