"""The nouns of a build.

A *step* changes a root filesystem; a *stage* is a chain of steps that begins with FROM; a *graph* is all the
stages that a target needs. Instructions that change no file are folded into the stage's image config and
appear only in its history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import SourceRange
from .settings import image_key


@dataclass(frozen=True)
class Origin:
    """The place that a COPY reads.

    ``kind`` is ``context`` (``name`` is empty for the build context, else a named one), or ``step`` (the result of
    step ``step``).
    """

    kind: str
    name: str = ""
    step: int = -1


@dataclass(frozen=True)
class Inline:
    """A file whose content the Dockerfile holds: a here-document, ready to be written."""

    name: str
    content: str


@dataclass(frozen=True)
class HttpFile:
    """A file from an http or https URL.

    ``checksum`` is ``sha256:…`` or empty. With ``unpack`` (ADD --unpack) a tar archive is unpacked.
    """

    url: str
    checksum: str = ""
    unpack: bool = False


@dataclass(frozen=True)
class GitTree:
    """The files of a commit.

    ``remote`` is a URL as git takes it, ``ref`` a branch, tag, full reference or commit, empty for the default branch.
    ``checksum`` is the commit, or its first digits, that ``ref`` has to be.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True
    fetch_by_commit: bool = False


@dataclass(frozen=True)
class SourceOp:
    """An image's root filesystem, or an empty one (``scratch``)."""

    reference: str
    platform: str = ""
    kind = "source"
    known_by_key = True


@dataclass(frozen=True)
class Mount:
    """One ``RUN --mount``, variables replaced.

    ``target`` is absolute; empty for a secret that is only a variable and for an agent's socket with no place given.
    ``source`` is a path in the result of step ``origin``, which is None for a cache that starts empty and for a mount
    that has no source.
    """

    kind: str
    target: str
    origin: int | None = None
    source: str = "/"
    read_only: bool = False
    id: str = ""
    sharing: str = "shared"
    env: str = ""
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class Device:
    """``RUN --device``: the name of a CDI device; without ``required`` the step goes on where there is none."""

    name: str
    required: bool = True


@dataclass(frozen=True)
class RunOp:
    """A command.

    ``env`` is the image's environment, ``args`` the build arguments that RUN exports, ``proxy`` the predefined ones
    that never count for the cache. ``script`` is a program that the step finds, read-only, as ``/dev/pipes/NAME``.
    ``security`` is ``insecure`` or ``sandbox`` or empty, ``devices`` are CDI devices.
    """

    command: tuple[str, ...]
    env: tuple[str, ...]
    args: tuple[str, ...]
    proxy: tuple[str, ...]
    user: str
    cwd: str
    network: str
    volumes: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    script: Inline | None = None
    security: str = ""
    devices: tuple[Device, ...] = ()
    kind = "run"
    known_by_key = False


CopySource = str | Inline | HttpFile | GitTree


@dataclass(frozen=True)
class CopyOp:
    """Files from an origin into the root filesystem; ``unpack`` (ADD) also unpacks local tar archives.

    A source that is a string is a path or a pattern in ``origin``; the others say themselves where they come from.
    ``dest`` is absolute; one that ends with ``/`` is a directory. ``for_mount``: the result is only there for a RUN to
    mount, and becomes no layer. ``parents``: files keep their directories, from the ``/./`` of a source on.
    ``excludes``: patterns of files that are left out. ``link``: the files are put into an empty root filesystem, whose
    layer does not depend on the parent.
    """

    sources: tuple[CopySource, ...]
    dest: str
    origin: Origin
    chown: str = ""
    chmod: str = ""
    unpack: bool = False
    for_mount: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    link: bool = False
    kind = "copy"

    @property
    def paths(self) -> tuple[str, ...]:
        """The sources that are paths or patterns in ``origin``."""
        return tuple(source for source in self.sources if isinstance(source, str))

    @property
    def known_by_key(self) -> bool:
        """Whether the key of its step determines the files of the result."""
        return self.for_mount


@dataclass(frozen=True)
class WorkdirOp:
    """A directory that has to exist. The directories that are made for it belong to ``user``.

    ``created`` is the time that they get, in seconds; None is the time at which they are made.
    """

    path: str
    user: str = ""
    created: int | None = None
    kind = "workdir"
    known_by_key = False


CONTENT = "/content"
"""The path at which a CopyOp for a mount puts its files."""

Operation = SourceOp | RunOp | CopyOp | WorkdirOp
"""The operation of a step. ``known_by_key``: its key determines the files of its result."""


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    ``parent`` is the step whose root filesystem this one changes; ``inputs`` are all the steps whose results it needs,
    the parent first. ``id`` counts in the order of the Dockerfile. ``internal``: the step is not an instruction of a
    stage, but reads an image or a context for a COPY or a RUN mount; ``stage`` is the first that needs it.
    """

    id: int
    stage: int
    title: str
    source: SourceRange
    op: Operation
    parent: int | None
    inputs: tuple[int, ...]
    internal: bool = False


@dataclass(frozen=True)
class History:
    """One line of an image's history. ``step`` is the step that may have made a layer for it."""

    created_by: str
    step: int | None = None


@dataclass(frozen=True)
class Stage:
    """One stage, folded.

    ``config`` is the ``config`` object of the OCI image config, from the base and the instructions. ``base`` is the
    reference of the image that the stage starts from, directly or through other stages.
    """

    index: int
    name: str
    base: str
    first: int
    last: int
    config: dict[str, Any]
    author: str
    history: tuple[History, ...]


@dataclass(frozen=True)
class StepGraph:
    """Everything that ``target`` needs, and nothing else. ``warnings`` are pairs of place and text.

    ``platform`` is that of the build, ``image_platform`` that of the image, which may be its base's. ``created`` is the
    time that the image and its history get, in seconds; None is that of the layers.
    """

    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]
    target: int
    platform: str
    warnings: tuple[tuple[SourceRange | None, str], ...] = ()
    image_platform: str = ""
    created: int | None = None

    def image_key(self, op: SourceOp) -> str:
        """Return the name that the image of a step has among the base images."""
        return image_key(op.reference, op.platform, self.platform)

    def step(self, number: int) -> Step:
        """Return the step with this id."""
        if number < len(self.steps) and self.steps[number].id == number:
            return self.steps[number]
        return next(step for step in self.steps if step.id == number)

    def runs(self) -> list[tuple[Step, RunOp]]:
        """Return the steps that run a command, with their operations."""
        return [(step, step.op) for step in self.steps if isinstance(step.op, RunOp)]

    @property
    def target_stage(self) -> Stage:
        """The stage that becomes the image."""
        return next(stage for stage in self.stages if stage.index == self.target)
