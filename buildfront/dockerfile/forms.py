"""The form of each instruction: its arguments checked as BuildKit checks them when it reads a Dockerfile.

A check that BuildKit makes only when a stage is built belongs to the graph.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..durations import parse_duration
from ..errors import BuildError, SourceRange
from . import arguments, flags, mount_flags
from .blanks import ASCII_RUN, BLANK_RUN, BLANKS
from .command_line import CommandLine, cut
from .device_flags import parse as parse_device
from .heredocs import delimiter
from .instructions import (
    Arg,
    Command,
    Copy,
    Entry,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Onbuild,
    Pairs,
    Run,
    Shell,
    Word,
    Words,
)
from .json_form import json_array

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_ONBUILD = re.compile(r"onbuild[\t\n\f\r ]*", re.IGNORECASE | re.ASCII)
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,20}")
_LARGEST_RETRIES = (1 << 31) - 1


@dataclass(frozen=True)
class Line:
    """One instruction as it was read: its line, cut; its place; what belongs to it."""

    text: str
    source: SourceRange
    escape: str
    command: CommandLine
    comments: tuple[str, ...] = ()
    documents: tuple[Heredoc, ...] = ()

    @property
    def name(self) -> str:
        """The instruction's name in capitals."""
        return self.command.keyword.upper()

    @property
    def rest(self) -> str:
        """What follows the flags."""
        return self.command.rest

    def common(self) -> dict[str, Any]:
        """Return the fields that all instructions have."""
        return {
            "source": self.source,
            "text": self.text.strip(BLANKS),
            "escape": self.escape,
            "keyword": self.command.keyword,
            "comments": self.comments,
        }

    def flags(
        self, *known: str, booleans: tuple[str, ...] = (), repeated: tuple[str, ...] = ()
    ) -> flags.Flags:
        """Return the flags. Raises BuildError."""
        return flags.take(self.command.flags, self.name, known, booleans=booleans, repeated=repeated)

    def words(self) -> list[str]:
        """Return what follows the flags as words; quotation marks mean nothing here."""
        return ASCII_RUN.split(self.rest) if self.rest else []


def check_structure(command: CommandLine, escape: str) -> None:
    """Raise BuildError for what BuildKit refuses before it looks at any instruction's meaning."""
    name = command.keyword.lower()
    if name in ("env", "label"):
        arguments.pairs(command.rest, name.upper(), escape)
    elif name in ("run", "cmd", "entrypoint", "shell", "copy", "add", "volume"):
        json_array(command.rest)
    elif name == "healthcheck":
        json_array(_kind_and_rest(command.rest)[1])
    elif name == "onbuild" and command.rest:
        inner = cut(command.rest, escape)
        if inner.keyword.lower() != "onbuild":
            check_structure(inner, escape)


def instruction(line: Line) -> Instruction:
    """Return one instruction. Raises BuildError."""
    form = _FORMS.get(line.command.keyword.lower())
    if form is None:
        keyword = line.command.keyword
        raise BuildError(f"unknown instruction {keyword}", about=keyword)
    return form(line)


def command(line: Line) -> Command:
    """Return an exec form where the text is a JSON array of strings, else a shell form."""
    array = json_array(line.rest)
    if array is None:
        return Command((line.rest,), shell=True, documents=line.documents)
    return Command(tuple(array), shell=False)


def _needs(line: Line, what: str = "an argument") -> None:
    if not line.rest:
        raise BuildError(f"{line.name} needs {what}", about=line.command.keyword)


def _from(line: Line) -> From:
    parts = line.words()
    name = written = ""
    if len(parts) == 3 and parts[1].lower() == "as":
        written, name = parts[2], parts[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise BuildError(
                f"invalid stage name {written!r}", hint="a letter, then letters, digits, _ . -", about=written
            )
    elif len(parts) != 1:
        _needs(line)
        raise BuildError(f"FROM {line.rest}: the form is FROM IMAGE [AS NAME]", about=line.rest)
    platform = line.flags("platform").text("platform")
    return From(**line.common(), image=parts[0], platform=platform, name=name, written_name=written)


def _run(line: Line) -> Run:
    found = line.flags("network", "security", repeated=("mount", "device"))
    network, security = found.text("network", "default"), found.text("security", "sandbox")
    if network not in ("default", "none", "host"):
        raise BuildError(
            f"RUN --network={network}: known are default, none, host", about=f"--network={network}"
        )
    if security not in ("sandbox", "insecure"):
        raise BuildError(
            f"RUN --security={security}: known are sandbox, insecure", about=f"--security={security}"
        )
    run = command(line)
    if not run.words:
        raise BuildError("the exec form is an empty list", hint="give at least the program to run", about="[")
    return Run(
        **line.common(),
        command=run,
        network=found.text("network"),
        mounts=tuple(map(mount_flags.parse, found.texts("mount"))),
        security=found.text("security"),
        devices=tuple(map(parse_device, found.texts("device"))),
    )


def _copy(line: Line) -> Copy:
    add = line.name == "ADD"
    array = json_array(line.rest)
    parts = array if array is not None else line.words()
    if len(parts) < 2:
        raise BuildError(
            f"{line.name} needs at least one source and a destination",
            about=line.rest or line.command.keyword,
        )
    if add:
        found = line.flags(
            "chown", "chmod", "checksum", booleans=("link", "keep-git-dir", "unpack"), repeated=("exclude",)
        )
    else:
        found = line.flags("from", "chown", "chmod", booleans=("link", "parents"), repeated=("exclude",))
    *sources, dest = parts
    if _delimiter(dest) is not None:
        raise BuildError(
            f"{line.name} {dest}: a here-document can't be the destination",
            hint="write the destination after it",
            about=dest,
        )
    contents = {document.name: document.content for document in line.documents}
    documents = []
    paths = []
    for source in sources:
        named = _delimiter(source)
        if named is None:
            paths.append(source)
        else:
            content = contents.get(named.name, "")
            documents.append(Heredoc(named.name, content, named.expand, named.strip_tabs))
    return Copy(
        **line.common(),
        sources=tuple(paths),
        dest=dest,
        add=add,
        from_=found.text("from"),
        chown=found.text("chown"),
        chmod=found.text("chmod"),
        link=bool(found.truth("link")),
        documents=tuple(documents),
        parents=bool(found.truth("parents")),
        excludes=found.texts("exclude"),
        checksum=found.text("checksum"),
        keep_git_dir=found.truth("keep-git-dir"),
        unpack=found.truth("unpack"),
    )


def _delimiter(word: str) -> Any:
    try:
        return delimiter(word)
    except BuildError:
        return None  # the word is expanded later, which says what is wrong with it


def _pairs(line: Line) -> Pairs:
    line.flags()
    found, legacy = arguments.pairs(line.rest, line.name, line.escape)
    if not found:
        raise BuildError(f"{line.name} needs at least one NAME=VALUE", about=line.command.keyword)
    for name, value in found:
        if not name:
            raise BuildError(f"{line.name} {name}={value}: the name before = is empty", about=f"={value}")
    return Pairs(**line.common(), kind=line.name, pairs=tuple(found), legacy=legacy)


def _arg(line: Line) -> Arg:
    # BuildKit passes over the flags of ARG and STOPSIGNAL.
    out: list[tuple[str, str | None]] = []
    for word in arguments.split(line.rest, line.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise BuildError(f"ARG {word!r}: the form is NAME or NAME=DEFAULT", about=word)
        out.append((name, value if equals else None))
    if not out:
        raise BuildError("ARG needs an argument", about=line.command.keyword)
    return Arg(**line.common(), args=tuple(out))


def _word(line: Line) -> Word:
    _needs(line)
    if line.name != "STOPSIGNAL":
        line.flags()
    return Word(**line.common(), kind=line.name, value=line.rest)


def _expose(line: Line) -> Words:
    _needs(line)
    line.flags()
    return Words(**line.common(), kind="EXPOSE", values=tuple(sorted(line.words())))


def _volume(line: Line) -> Words:
    array = json_array(line.rest)
    values = array if array is not None else line.words()
    if not values:
        raise BuildError("VOLUME needs at least one path", about=line.rest or line.command.keyword)
    line.flags()
    paths = tuple(value.strip(BLANKS) for value in values)
    if not all(paths):
        raise BuildError("VOLUME has an empty path", about=line.rest)
    return Words(**line.common(), kind="VOLUME", values=paths)


def _entry(line: Line) -> Entry:
    line.flags()
    return Entry(**line.common(), kind=line.name, command=command(line))


def _shell(line: Line) -> Shell:
    line.flags()
    array = json_array(line.rest)
    if not array:
        raise BuildError(
            "SHELL needs a JSON array", hint='for instance SHELL ["/bin/bash", "-c"]', about=line.rest
        )
    return Shell(**line.common(), words=tuple(array))


def _kind_and_rest(text: str) -> tuple[str, str]:
    kind, *more = BLANK_RUN.split(text, maxsplit=1)
    return kind, more[0] if more else ""


def _healthcheck(line: Line) -> Healthcheck:
    _needs(line)
    kind, tail = _kind_and_rest(line.rest)
    if kind.upper() == "NONE":
        if tail and json_array(tail) != []:
            raise BuildError("HEALTHCHECK NONE takes no arguments", about=tail)
        return Healthcheck(**line.common(), command=None)  # BuildKit passes over its flags
    times = ("interval", "timeout", "start-period", "start-interval")
    found = line.flags(*times, "retries")
    array = json_array(tail)
    if kind.upper() != "CMD" or not tail or array == []:
        raise BuildError(
            f"HEALTHCHECK {line.rest}: the form is HEALTHCHECK [FLAGS] CMD command, or NONE", about=line.rest
        )
    return Healthcheck(
        **line.common(),
        command=Command((tail,), shell=True) if array is None else Command(tuple(array), shell=False),
        interval=_time(found, "interval"),
        timeout=_time(found, "timeout"),
        start_period=_time(found, "start-period"),
        start_interval=_time(found, "start-interval"),
        retries=_retries(found.text("retries")),
    )


def _time(found: flags.Flags, name: str) -> int:
    text = found.text(name)
    try:
        return parse_duration(text.removeprefix("+")) if text else 0
    except BuildError as error:
        error.about = f"--{name}={text}"
        raise


def _retries(text: str) -> int:
    if not text:
        return 0
    if not _WHOLE_NUMBER.fullmatch(text) or not 0 <= int(text) <= _LARGEST_RETRIES:
        raise BuildError(
            f"HEALTHCHECK --retries={text}: a whole number up to {_LARGEST_RETRIES} is wanted",
            about=f"--retries={text}",
        )
    return int(text)


def _onbuild(line: Line) -> Onbuild:
    _needs(line, "an instruction")
    line.flags()
    name = cut(line.rest, line.escape).keyword
    if name.upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise BuildError(f"{name.upper()} is not allowed as an ONBUILD trigger", about=line.rest)
    trigger = _ONBUILD.sub("", line.text, count=1)
    for document in line.documents:
        trigger += f"\n{document.content}{document.name}"
    return Onbuild(**line.common(), trigger=trigger)


_FORMS: dict[str, Callable[[Line], Instruction]] = {
    "add": _copy,
    "arg": _arg,
    "cmd": _entry,
    "copy": _copy,
    "entrypoint": _entry,
    "env": _pairs,
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _pairs,
    "maintainer": _word,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _word,
    "user": _word,
    "volume": _volume,
    "workdir": _word,
}

KNOWN = tuple(name.upper() for name in _FORMS)
"""The names of all instructions."""
