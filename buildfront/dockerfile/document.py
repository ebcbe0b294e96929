"""A whole Dockerfile as data: its instructions, its directives, and the kind of each of its lines."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SourceRange
from .directives import Directive
from .instructions import Instruction
from .scanner import Kind


@dataclass(frozen=True)
class Document:
    """A Dockerfile that was read.

    ``kinds`` has the kind of each source line, the first at index 0. ``empty_continuations`` are the last lines of the
    instructions that have a blank line within a continuation.
    """

    file: str
    instructions: tuple[Instruction, ...]
    directives: tuple[Directive, ...] = ()
    escape: str = "\\"
    kinds: tuple[Kind, ...] = ()
    empty_continuations: tuple[SourceRange, ...] = ()

    def directive(self, name: str) -> str | None:
        """Return the value of a directive; None where there is none."""
        return next((item.value for item in self.directives if item.name == name), None)
