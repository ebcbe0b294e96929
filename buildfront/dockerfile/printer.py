"""Instructions to text. Reading the text gives the instructions again, but for their places and their ``text``."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..errors import BuildError
from . import instructions as ast
from .blanks import ASCII_RUN, BLANKS
from .heredocs import delimiter, delimiters
from .json_form import json_array
from .scanner import LONGEST_LINE

_MOST = LONGEST_LINE // 4
"""Characters of a line; UTF-8 has four bytes at most for each."""


def text_of(instructions: Iterable[ast.Instruction], escape: str = "\\") -> str:
    """Return a Dockerfile; ``escape`` is the escape character of the file that the instructions are from."""
    out = ["# escape=`\n"] if escape == "`" else []
    for number, item in enumerate(instructions):
        if item.comments and not number:
            out.append("#\n")  # what follows is no directive, whatever it looks like
        out += [f"# {comment}\n" for comment in item.comments]
        out.append(instruction_text(item, escape))
    return "".join(out)


def instruction_text(item: ast.Instruction, escape: str = "\\") -> str:
    """Return the lines of one instruction, without the comments above it."""
    keyword = item.keyword or type(item).__name__.upper()
    if isinstance(item, ast.Onbuild):
        line, *documents = item.trigger.split("\n")
        if line.endswith("\r"):  # which is a part of it only where the text ends within a continuation
            line += escape
        return "\n".join([_cut(f"{keyword} {line}", escape), *documents]) + "\n"
    flags, rest = _parts(item, escape)
    words = [keyword, *(_flag(name, value, escape) for name, value in flags)]
    if rest.startswith("--"):
        words.append("--")
    if rest:
        words.append(rest)
    line = " ".join(words)
    if line.endswith(escape):
        line += "\f"  # a blank after which it continues no line
    bodies = _documents(item)
    out = [_cut(line, escape)]
    for found in delimiters(line, escape):
        out.append(f"{bodies.get(found.name, [''])[0]}{found.name}")
        bodies[found.name] = bodies.get(found.name, [])[1:] or bodies.get(found.name, [])
    return "\n".join(out) + "\n"


def _documents(item: ast.Instruction) -> dict[str, list[str]]:
    """Return the contents of an instruction's here-documents by their names, those of one name in order."""
    found: tuple[ast.Heredoc, ...] = ()
    if isinstance(item, ast.Run):
        found = item.command.documents
    elif isinstance(item, ast.Copy):
        found = item.documents
    out: dict[str, list[str]] = {}
    for document in found:
        out.setdefault(document.name, []).append(document.content)
    return out


def _flag(name: str, value: str, escape: str) -> str:
    special = f"'\"{escape}{BLANKS}"
    if not any(char in special for char in value):
        return f"--{name}={value}"
    quoted = "".join(f"{escape}{char}" if char in ('"', escape) else char for char in value)
    return f'--{name}="{quoted}"'


def _cut(line: str, escape: str) -> str:
    """Return the line, continued where it is too long for one."""
    out = []
    while len(line) > _MOST:
        at = _MOST
        while at > _MOST // 2 and (line[at] in f"#{escape}{BLANKS}" or line[at - 1] in f"{escape}{BLANKS}"):
            at -= 1
        out.append(line[:at] + escape)
        line = line[at:]
    return "\n".join([*out, line])


_Flags = list[tuple[str, str]]


def _parts(item: ast.Instruction, escape: str) -> tuple[_Flags, str]:
    """Return the flags of an instruction and the rest of its line."""
    flags: _Flags = []
    match item:
        case ast.From():
            flags = [("platform", item.platform)] if item.platform else []
            name = item.written_name or item.name
            return flags, item.image + (f" AS {name}" if name else "")
        case ast.Run():
            flags += [("network", item.network)] if item.network else []
            flags += [("security", item.security)] if item.security else []
            flags += [("mount", mount.text) for mount in item.mounts]
            flags += [("device", _device(device)) for device in item.devices]
            return flags, _command(item.command)
        case ast.Copy():
            return _copy_flags(item), _copy(item, escape)
        case ast.Pairs():
            if item.legacy:
                name, value = item.pairs[0]
                return flags, f"{name}{'  ' if name.endswith(escape) else ' '}{value}"  # one may be escaped
            return flags, " ".join(f"{name}={value}" for name, value in item.pairs)
        case ast.Arg():
            return flags, " ".join(name if value is None else f"{name}={value}" for name, value in item.args)
        case ast.Word():
            return flags, item.value
        case ast.Words():
            return flags, _words(item.values) if item.kind == "VOLUME" else " ".join(item.values)
        case ast.Entry():
            return flags, _command(item.command)
        case ast.Shell():
            return flags, _array(item.words)
        case ast.Healthcheck():
            if item.command is None:
                return flags, "NONE"
            return _healthcheck_flags(item), f"CMD {_command(item.command)}"
    raise TypeError(type(item).__name__)


def _device(device: ast.DeviceFlag) -> str:
    fields = [f"name={device.name}"] if device.name else []
    fields += ["required"] if device.required else []
    return ",".join(
        '"' + field.replace('"', '""') + '"' if any(char in field for char in ',"\r\n') else field
        for field in fields
    )


def _command(command: ast.Command) -> str:
    return command.words[0] if command.shell else _array(command.words)


def _array(words: Iterable[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


def _words(words: tuple[str, ...]) -> str:
    """Return words with blanks between them where they can be read so, else a JSON array."""
    line = " ".join(words)
    plain = all(words) and ASCII_RUN.split(line) == list(words) and line.strip(BLANKS) == line
    return line if plain and "\n" not in line and not _is_array(line) else _array(words)


def _copy(item: ast.Copy, escape: str) -> str:
    """Return the sources and the destination of a COPY or ADD."""
    named = tuple(_delimiter(document) for document in item.documents)
    names = [document.name for document in item.documents]
    # Nothing before a delimiter may make it a part of a quotation, so it may have to stand first.
    for words in ((*item.sources, *named, item.dest), (*named, *item.sources, item.dest)):
        line = " ".join(words)
        if not all(map(_is_word, words)) or line.strip(BLANKS) != line or _is_array(line):
            continue
        if [found.name for found in delimiters(f"COPY {line}", escape)] == names or not any(names):
            return line
    return _array((*item.sources, *named, item.dest))


def _is_array(line: str) -> bool:
    try:
        return json_array(line) is not None
    except BuildError:
        return True


def _is_word(word: str) -> bool:
    return word != "" and ASCII_RUN.search(word) is None and "\n" not in word


def _delimiter(document: ast.Heredoc) -> str:
    """Return ``<<NAME`` as it is read again."""
    start = "<<-" if document.strip_tabs else "<<"
    if document.expand:
        special = f"'\"\\$-{BLANKS}"
        name = "".join(f"\\{char}" if char in special else char for char in document.name)
    else:
        name = '"' + "".join(f"\\{char}" if char in '"\\$' else char for char in document.name) + '"'
    word = start + name
    assert delimiter(word) is not None
    return word


def _copy_flags(item: ast.Copy) -> _Flags:
    texts = (("from", item.from_), ("chown", item.chown), ("chmod", item.chmod), ("checksum", item.checksum))
    truths = (
        ("link", item.link or None),
        ("parents", item.parents or None),
        ("keep-git-dir", item.keep_git_dir),
        ("unpack", item.unpack),
    )
    return [
        *((name, text) for name, text in texts if text),
        *((name, str(value).lower()) for name, value in truths if value is not None),
        *(("exclude", pattern) for pattern in item.excludes),
    ]


def _healthcheck_flags(item: ast.Healthcheck) -> _Flags:
    times = (
        ("interval", item.interval),
        ("timeout", item.timeout),
        ("start-period", item.start_period),
        ("start-interval", item.start_interval),
    )
    flags = [(name, f"{time}ns") for name, time in times if time]
    return flags + ([("retries", str(item.retries))] if item.retries else [])
