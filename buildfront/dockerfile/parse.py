"""Dockerfile text to instructions, each with its place; the place is also in every error."""

from __future__ import annotations

from ..errors import BuildError, SourceRange
from ..text import SURROGATE
from .command_line import cut
from .document import Document
from .forms import KNOWN, Line, check_structure, instruction
from .instructions import Instruction
from .json_form import json_array
from .proposals import CONFLICT, for_unknown, is_guess
from .scanner import Logical, Scan, scan

MOST_ERRORS = 10
"""The most mistakes that are told at once."""


def parse(text: str, file: str = "Dockerfile") -> tuple[Instruction, ...]:
    """Return all instructions of a Dockerfile.

    Raises BuildError with the place for a text with no instruction, an unknown instruction (with the nearest
    known one) and a malformed one. Its ``others`` are further mistakes.
    """
    return parse_document(text, file).instructions


def parse_document(text: str, file: str = "Dockerfile") -> Document:
    """Return a Dockerfile with its directives and its lines. Raises BuildError as :func:`parse` does."""
    found = scan(text, file)
    instructions, errors = _instructions(found)
    if errors:
        errors[0].others = tuple(errors[1:MOST_ERRORS])
        raise errors[0]
    if not found.lines:
        last = max(1, len(found.kinds))
        raise BuildError(
            "the Dockerfile is empty: it has no instruction",
            where=SourceRange(file, last, last),
            hint="start it with FROM",
        )
    gaps = tuple(SourceRange(file, line.last, line.last) for line in found.lines if line.gap)
    return Document(file, tuple(instructions), found.directives, found.escape, found.kinds, gaps)


def _instructions(found: Scan) -> tuple[list[Instruction], list[BuildError]]:
    """Return the instructions and the mistakes, one an instruction, those first that BuildKit finds first."""
    out: list[Instruction] = []
    early: list[BuildError] = []
    late: list[BuildError] = []
    before: Logical | None = None
    staged = False
    misplaced: list[BuildError] = []  # an instruction before the first FROM, if a mistake follows it
    lost = False  # whether the line before began with no instruction, which explains what follows
    for line in found.lines:
        command = cut(line.text, found.escape)
        try:
            check_structure(command, found.escape)
        except BuildError as error:
            early.append(error.at(line.source))
        else:
            try:
                out.append(_instruction(line, found.escape, line.source))
            except BuildError as error:
                unknown = command.keyword.upper() not in KNOWN
                if unknown:
                    error.hint = for_unknown(command.keyword, before, found.escape)
                told = lost or (error.hint == CONFLICT and any(item.hint == CONFLICT for item in late))
                if not (told and unknown) or is_guess(error.hint):
                    late.append(error.at(line.source))
        lost = command.keyword.upper() not in KNOWN
        staged = staged or command.keyword.lower() == "from"
        if not (staged or late or misplaced) and command.keyword.lower() != "arg":
            misplaced.append(before_from(command.keyword, line.source))
        before = line
        if len(early) + len(late) >= MOST_ERRORS:
            break
    if found.error is not None:
        early.append(found.error)
    return out, early + (misplaced + late if late else [])


def before_from(keyword: str, source: SourceRange) -> BuildError:
    """Return the error of an instruction that belongs to no stage."""
    return BuildError(
        f"{keyword} stands before the first FROM",
        where=source,
        hint="only ARG may stand there",
        about=keyword,
    )


def _instruction(line: Logical, escape: str, source: SourceRange) -> Instruction:
    text = line.text
    keyword = cut(text, escape).keyword.lower()
    if "\0" in text and keyword not in _MAY_HOLD_NULL:
        raise BuildError(
            "the Dockerfile has a null byte", hint="it is a text file in UTF-8: is another file meant?"
        )
    whole = text if text.isascii() else SURROGATE.sub("\ufffd", text)
    if keyword == "run":
        _refuse_bytes(line, escape)
    if keyword not in ("copy", "add"):  # their names of files keep their bytes
        text = whole
    form = Line(whole, source, escape, cut(text, escape), line.comments, line.documents)
    return instruction(form)


_MAY_HOLD_NULL = ("label", "maintainer")
"""What they say goes into a JSON document, and into nothing else."""


def _refuse_bytes(line: Logical, escape: str) -> None:
    """Raise BuildError for a command that the kernel or the shell would read otherwise than the image's history."""
    contents = [document.content for document in line.documents]
    if any("\0" in content for content in contents):
        raise BuildError("the here-document has a null byte", hint="COPY it, and run the file")
    texts = [line.text, *contents]
    if all(text.isascii() or not SURROGATE.search(text) for text in texts):
        return
    if contents or json_array(cut(line.text, escape).rest) is None:
        raise BuildError(
            "RUN has bytes that are not UTF-8", hint="save the Dockerfile in UTF-8, as BuildKit wants it"
        )


def trigger(text: str, source: SourceRange) -> Instruction:
    """Return the instruction of an image's ONBUILD trigger. Raises BuildError."""
    found = scan(text, source.file)
    if found.error is not None:
        raise BuildError(f"ONBUILD {text}: {found.error.what}", hint=found.error.hint)
    if len(found.lines) != 1:
        raise BuildError(f"the base image's trigger ONBUILD {text!r} is not one instruction")
    line = found.lines[0]
    command = cut(line.text, found.escape)
    check_structure(command, found.escape)
    if command.keyword.lower() == "from":
        raise BuildError("FROM is not allowed as an ONBUILD trigger")
    return _instruction(line, found.escape, source)
