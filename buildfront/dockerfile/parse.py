"""Logical lines to instructions: the form of each instruction, checked, with its place in every error."""

from __future__ import annotations

import re
from dataclasses import replace

from ..durations import parse_duration
from ..errors import BuildError, SourceRange, nearest
from ..text import SURROGATE
from . import flags, lines, words
from .instructions import (
    Arg,
    Command,
    Copy,
    Entry,
    From,
    Healthcheck,
    Instruction,
    Onbuild,
    Pairs,
    Run,
    Shell,
    Word,
    Words,
)
from .mount_flags import parse as parse_mount

KNOWN = (
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?['\"]?([a-zA-Z_][a-zA-Z0-9_]*)['\"]?")
_STAGE_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]*")
_MOST_MOUNTS = 1000


def parse(text: str, file: str = "Dockerfile") -> tuple[Instruction, ...]:
    """Return all instructions of a Dockerfile.

    Raises BuildError with the place for a text with no instruction, an unknown instruction (with the nearest
    known one), a malformed one, and for one that this version does not support, by its name.
    """
    split = lines.split(text, file)
    if not split.lines:
        raise BuildError(
            "the Dockerfile is empty: it has no instruction",
            where=SourceRange(file, 1, 1),
            hint="start it with FROM",
        )
    out = []
    for line in split.lines:
        try:
            if not line.text.isascii() and SURROGATE.search(line.text):
                raise BuildError(
                    f"{line.name} has bytes that are not UTF-8",
                    hint="save the Dockerfile in UTF-8, as BuildKit wants it",
                )
            item = instruction(line.name, line.rest, line.source, split.escape)
            out.append(item if split.escape == "\\" else replace(item, escape=split.escape))
        except BuildError as error:
            raise error.at(line.source) from None
    return tuple(out)


def trigger(text: str, source: SourceRange) -> Instruction:
    """Return the instruction of an image's ONBUILD trigger. Raises BuildError."""
    if "\0" in text:
        raise BuildError(f"the base image's trigger ONBUILD {text!r} has a null byte")
    name, rest = _name_and_rest(text)
    return instruction(name.upper(), rest, source, "\\")


def _name_and_rest(text: str) -> tuple[str, str]:
    name, rest = [*text.split(None, 1), "", ""][:2]
    return name, rest.strip()


def instruction(name: str, rest: str, source: SourceRange, escape: str) -> Instruction:
    """Return one instruction from its name and the rest of its line."""
    if name not in KNOWN:
        raise BuildError(
            f"unknown instruction {name}", hint=nearest(name, KNOWN) or f"known are {', '.join(KNOWN)}"
        )
    text = f"{name} {rest}".rstrip()
    if not rest:
        raise BuildError(f"{name} needs an argument")
    if name in ("RUN", "COPY", "ADD") and "<<" in rest and json_array(rest) is None:
        _refuse_heredoc(name, rest)
    if name == "FROM":
        return _from(rest, source, text, escape)
    if name == "RUN":
        mounts: dict[str, list[str]] = {"mount": []}
        found, rest = flags.take(rest, ("network",), "RUN", escape, mounts)
        network = found.get("network", "")
        if network not in ("", "default", "none", "host"):
            raise BuildError(f"RUN --network={network}: known are default, none, host")
        if not rest:
            raise BuildError("RUN needs a command after its flags")
        if len(mounts["mount"]) > _MOST_MOUNTS:
            raise BuildError(f"RUN has more than {_MOST_MOUNTS} mounts")
        return Run(source, text, command(rest), network, tuple(map(parse_mount, mounts["mount"])))
    if name in ("COPY", "ADD"):
        return _copy(name, rest, source, text, escape)
    if name == "HEALTHCHECK":
        return _healthcheck(rest, source, text, escape)
    rest = flags.take(rest, (), name, escape)[1]  # the others take none, and say so
    if name in ("ENV", "LABEL"):
        return Pairs(source, text, name, tuple(words.pairs(rest, name, escape)))
    if name == "ARG":
        return _arg(rest, source, text, escape)
    if name in ("WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"):
        return Word(source, text, name, rest)
    if name in ("EXPOSE", "VOLUME"):
        array = json_array(rest) if name == "VOLUME" else None
        if array is not None:
            if not array:
                raise BuildError("VOLUME needs at least one path")
            return Words(source, text, name, tuple(array))
        return Words(source, text, name, tuple(words.split(rest, escape)))
    if name in ("CMD", "ENTRYPOINT"):
        return Entry(source, text, name, command(rest, empty=True))
    if name == "SHELL":
        array = json_array(rest)
        if not array:
            raise BuildError("SHELL needs a JSON array", hint='for instance SHELL ["/bin/bash", "-c"]')
        return Shell(source, text, tuple(array))
    return _onbuild(rest, source, text, escape)


def _refuse_heredoc(name: str, text: str) -> None:
    """Raise BuildError for the first ``<<WORD`` that stands outside of quotation marks."""
    quote = ""
    at = 0
    for match in _HEREDOC.finditer(text):
        while at < match.start():
            if text[at] == "\\" and quote != "'":
                at += 1
            elif quote:
                quote = "" if text[at] == quote else quote
            elif text[at] in "'\"":
                quote = text[at]
            at += 1
        if not quote:
            raise BuildError(
                f"{name} with a here-document (<<{match[1]}) is not supported yet",
                hint="write the lines with && and continuation, or put them in a file and COPY it",
            )


def json_array(text: str) -> list[str] | None:
    """Return the strings of a JSON array, or None where the text is not one and has to be read as words.

    Raises BuildError for an array of other values.
    """
    if not text.startswith("["):
        return None
    import json

    try:
        value = json.loads(text)
    except ValueError:
        return None
    except RecursionError:
        value = [None]  # arrays in arrays, which are not strings
    if not all(isinstance(item, str) for item in value):
        raise BuildError(
            f"{text}: a JSON array must hold only strings", hint="put each word in double quotes"
        )
    if any("\0" in item for item in value):
        raise BuildError(f"{text}: a word has a null byte", hint="no argument or path can hold one")
    # Half of a character is none, and neither is a byte that is not UTF-8: JSON has U+FFFD for it, in BuildKit too.
    return [SURROGATE.sub("\ufffd", item) for item in value]


def command(rest: str, *, empty: bool = False) -> Command:
    """Return an exec form where the text is a JSON array of strings, else a shell form.

    ``empty`` allows ``[]``, with which CMD and ENTRYPOINT remove what the base image has.
    """
    array = json_array(rest)
    if array is None:
        return Command((rest,), shell=True)
    if not array and not empty:
        raise BuildError("the exec form is an empty list", hint="give at least the program to run")
    return Command(tuple(array), shell=False)


def _from(rest: str, source: SourceRange, text: str, escape: str) -> From:
    found, rest = flags.take(rest, ("platform",), "FROM", escape)
    parts = words.split(rest, escape)
    if len(parts) == 3 and parts[1].upper() == "AS":
        name = parts[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise BuildError(f"invalid stage name {parts[2]!r}", hint="a letter, then letters, digits, _ . -")
        return From(source, text, parts[0], found.get("platform", ""), name)
    if len(parts) != 1:
        raise BuildError(f"FROM {rest}: the form is FROM IMAGE [AS NAME]")
    return From(source, text, parts[0], found.get("platform", ""))


def _copy(name: str, rest: str, source: SourceRange, text: str, escape: str) -> Copy:
    known = ("from", "chown", "chmod", "link") if name == "COPY" else ("chown", "chmod", "link")
    found, rest = flags.take(rest, known, name, escape)
    array = json_array(rest)
    parts = array if array is not None else words.split(rest, escape)
    if len(parts) < 2:
        raise BuildError(f"{name} needs at least one source and a destination")
    link = found.get("link", "false")
    if link not in ("true", "false"):
        raise BuildError(f"{name} --link={link}: it is true or false")
    *sources, dest = parts
    if name == "ADD":
        for item in sources:
            refuse_url(item)
    return Copy(
        source,
        text,
        tuple(sources),
        dest,
        add=name == "ADD",
        from_=found.get("from", ""),
        chown=found.get("chown", ""),
        chmod=found.get("chmod", ""),
        link=link == "true",
    )


def refuse_url(item: str) -> None:
    """Raise BuildError for a source of ADD that is a URL."""
    if item.startswith(("http://", "https://", "git@", "git://", "ssh://", "github.com/")):
        raise BuildError(f"ADD of a URL ({item}) is not supported yet", hint="fetch it in a RUN step")


def _arg(rest: str, source: SourceRange, text: str, escape: str) -> Arg:
    out: list[tuple[str, str | None]] = []
    for word in words.split(rest, escape):
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise BuildError(f"ARG {word!r}: the form is NAME or NAME=DEFAULT")
        out.append((name, value if equals else None))
    return Arg(source, text, tuple(out))


def _healthcheck(rest: str, source: SourceRange, text: str, escape: str) -> Healthcheck:
    known = ("interval", "timeout", "start-period", "start-interval", "retries")
    found, rest = flags.take(rest, known, "HEALTHCHECK", escape)
    kind, tail = _name_and_rest(rest)
    if kind.upper() == "NONE" and not tail:
        if found:
            raise BuildError("HEALTHCHECK NONE takes no flags")
        return Healthcheck(source, text, None)
    if kind.upper() != "CMD" or not tail:
        raise BuildError(f"HEALTHCHECK {rest}: the form is HEALTHCHECK [FLAGS] CMD command, or NONE")
    retries = found.get("retries", "0")
    if not (retries.isascii() and retries.isdigit() and len(retries) < 10):
        raise BuildError(f"HEALTHCHECK --retries={retries}: a whole number of less than ten digits is wanted")
    times = {key: parse_duration(value) for key, value in found.items() if key != "retries"}
    return Healthcheck(
        source,
        text,
        command(tail),
        interval=times.get("interval", 0),
        timeout=times.get("timeout", 0),
        start_period=times.get("start-period", 0),
        start_interval=times.get("start-interval", 0),
        retries=int(retries),
    )


def _onbuild(rest: str, source: SourceRange, text: str, escape: str) -> Onbuild:
    name, tail = _name_and_rest(rest)
    if name.upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise BuildError(f"{name.upper()} is not allowed as an ONBUILD trigger")
    instruction(name.upper(), tail, source, escape)  # its form is checked now, its effect comes later
    return Onbuild(source, text, rest)
