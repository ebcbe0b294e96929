"""The objects that every command is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

import buildfront

if TYPE_CHECKING:
    from buildfront import BuildOutcome

    Recorder = Callable[[list[str], BuildOutcome, str], None]


class Program:
    """One call of the command line. ``root`` is the store.

    ``record`` is called with the command line, the outcome, and what was printed to standard error, where the same
    build would print the same again.
    """

    def __init__(self, argv: list[str], record: Recorder | None = None) -> None:
        self._argv = argv
        self._record = record
        self.root = ""

    def become_root(self) -> None:
        """Make an ordinary user root of a user namespace, which commands that unpack or run something need.

        Prints what can't work in it. Raises BuildError.
        """
        for warning in buildfront.enter_user_namespace(self.root):
            click.echo(f"warning: {warning}", err=True)

    def remember(self, outcome: BuildOutcome, printed: str) -> None:
        """Let the same command line be answered faster the next time."""
        if self._record is not None:
            self._record(self._argv, outcome, printed)
