"""Here-documents: the files of a COPY or ADD, the command of a RUN (Dockerfile reference, "Here-Documents")."""

from __future__ import annotations

from collections.abc import Mapping

from ..dockerfile import words
from ..dockerfile.heredocs import delimiter, without_tabs
from ..dockerfile.instructions import Command, Heredoc
from ..errors import BuildError
from .step_graph import Inline

PIPES = "/dev/pipes"
"""The directory in which a step finds its script; BuildKit's name."""


def text_of(document: Heredoc) -> str:
    """Return the content of a document, without the tabs that ``<<-`` removes."""
    return without_tabs(document.content) if document.strip_tabs else document.content


def file_of(document: Heredoc, variables: Mapping[str, str]) -> Inline:
    """Return the file that COPY and ADD make of a document, variables replaced. Raises BuildError."""
    text = text_of(document)
    return Inline(_file_name(document), words.expand_document(text, variables) if document.expand else text)


def _file_name(document: Heredoc) -> str:
    """Return the name of the file that holds a document. Raises BuildError for a delimiter that is no name."""
    name = document.name.lstrip("/")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise BuildError(
            f"the here-document <<{document.name} can't be a file of that name", hint="choose a plain word"
        )
    return name


def run_words(command: Command) -> tuple[tuple[str, ...], Inline | None]:
    """Return the words of a RUN, and the script that it needs.

    A document that is the whole command is the script: for the shell, or, where it begins with ``#!``, a program of
    its own. With a command before it, or several documents, the shell gets the text as it is written. Raises
    BuildError.
    """
    if not command.documents:
        return command.words, None
    line = "".join(command.words)
    if len(command.documents) == 1 and _is_only_a_document(line):
        text = text_of(command.documents[0])
        if text.startswith("#!"):
            script = Inline(_file_name(command.documents[0]), text)
            return (f"{PIPES}/{script.name}",), script
        return (text,), None
    return (line + "".join(f"\n{item.content}{item.name}" for item in command.documents),), None


def _is_only_a_document(line: str) -> bool:
    try:
        return delimiter(line) is not None
    except BuildError:
        return False
