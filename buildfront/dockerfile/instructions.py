"""One frozen class an instruction, each with its place. The graph replaces variables."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import SourceRange


@dataclass(frozen=True)
class Instruction:
    """The part that all instructions have.

    ``text`` is the instruction as written, continuations joined, for progress and history. ``escape`` is the escape
    character of the file, for words that are expanded later. ``keyword`` is the instruction's name as written, and
    ``comments`` are the comment lines right above it, without ``#``.
    """

    source: SourceRange
    text: str
    escape: str = field(default="\\", kw_only=True)
    keyword: str = field(default="", kw_only=True)
    comments: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Heredoc:
    """A here-document.

    ``name`` is its delimiter without quotation marks, ``content`` the lines between, each with its line end, as
    written. ``expand`` is false where a part of the delimiter is quoted. ``strip_tabs`` (``<<-``) removes the tabs at
    the start of each line.
    """

    name: str
    content: str
    expand: bool = True
    strip_tabs: bool = False


@dataclass(frozen=True)
class Command:
    """An exec form, or (``shell``) a shell form, whose only word is the script.

    ``documents`` are the here-documents that the script names, in order.
    """

    words: tuple[str, ...]
    shell: bool
    documents: tuple[Heredoc, ...] = ()


@dataclass(frozen=True)
class From(Instruction):
    """FROM. ``name`` is the stage's name in lower case; empty for none. ``written_name`` is the name as written."""

    image: str
    platform: str = ""
    name: str = ""
    written_name: str = ""


@dataclass(frozen=True)
class MountFlag:
    """``--mount`` of a RUN: its type and its keys with their values as written. ``text`` is the whole value."""

    text: str
    kind: str
    fields: tuple[tuple[str, str], ...]

    @property
    def from_(self) -> str:
        """The stage, image or named context that it reads; empty for none."""
        return dict(self.fields).get("from", "")


@dataclass(frozen=True)
class DeviceFlag:
    """``--device`` of a RUN: the name of a CDI device, and whether the step goes on without it."""

    name: str
    required: bool = True


@dataclass(frozen=True)
class Run(Instruction):
    """RUN. ``security`` is ``sandbox`` or ``insecure``, empty where it was not given; ``devices`` are CDI names."""

    command: Command
    network: str = ""
    mounts: tuple[MountFlag, ...] = ()
    security: str = ""
    devices: tuple[DeviceFlag, ...] = ()


@dataclass(frozen=True)
class Copy(Instruction):
    """COPY, and ADD when ``add``: local tar archives are unpacked.

    ``documents`` are here-documents, each a file of its name; they come after ``sources``. ``keep_git_dir`` and
    ``unpack`` are None where the flag was not given.
    """

    sources: tuple[str, ...]
    dest: str
    add: bool = False
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    documents: tuple[Heredoc, ...] = ()
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True)
class Pairs(Instruction):
    """ENV and LABEL. ``legacy`` is the old form without an equals sign."""

    kind: str
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True)
class Arg(Instruction):
    """Each name with its default; None where it has none."""

    args: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Word(Instruction):
    """WORKDIR, USER, STOPSIGNAL and MAINTAINER: one value."""

    kind: str
    value: str


@dataclass(frozen=True)
class Words(Instruction):
    """EXPOSE and VOLUME: a list."""

    kind: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Entry(Instruction):
    """CMD and ENTRYPOINT."""

    kind: str
    command: Command


@dataclass(frozen=True)
class Shell(Instruction):
    """SHELL."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Healthcheck(Instruction):
    """HEALTHCHECK. Times are nanoseconds, as in the image config; ``command`` is None for ``NONE``."""

    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Onbuild(Instruction):
    """ONBUILD. ``trigger`` is the instruction as written."""

    trigger: str
