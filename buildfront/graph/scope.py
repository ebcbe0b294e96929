"""The state of a stage while its instructions are read: its config, its variables, its history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..dockerfile import words
from . import config as fold
from .limits import Budget
from .step_graph import History


@dataclass
class Scope:
    """The state of a stage.

    ``env`` is the environment of the config, by ENV. ``args`` are the variables by ARG whose declaration is the last
    one of their name; ``declared`` are the names and values of all ARG lines, also those of the stages below, for the
    history. ``pending`` is the line of a layer that no instruction made; it comes as late as the order of the layers
    allows. ``windows`` says that the image is for Windows, which has another shell.
    """

    config: dict[str, Any]
    env: fold.Environment
    budget: Budget
    args: dict[str, str] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    author: str = ""
    history: list[History] = field(default_factory=list)
    pending: History | None = None
    cmd_set: bool = False
    escape: str = "\\"
    windows: bool = False

    def __post_init__(self) -> None:
        # A stage starts with ENV again, whatever the ARG lines of its base said.
        self.args = {name: value for name, value in self.args.items() if name not in self.env.values}
        self.variables: dict[str, str] = {**self.args, **self.env.values}
        """What instructions and commands see: the last declaration of each name."""

    def expand(self, text: str) -> str:
        """Return ``text`` with its variables replaced. Raises BuildError."""
        return words.expand(text, self.variables, self.escape)

    def set_env(self, name: str, value: str) -> None:
        """Set a variable of the image."""
        self.env.set(name, value)
        self.variables[name] = value
        self.args.pop(name, None)

    def declare(self, name: str, value: str | None, *, exported: bool) -> None:
        """Set a variable of the build. One without a value changes nothing but the history.

        Raises BuildError where the graph grows too large.
        """
        self.budget.spend(len(name) + len(value or ""))
        if value is not None and exported:
            self.args[name] = self.variables[name] = value
        self.declared[name] = value or ""

    def exported(self) -> tuple[str, ...]:
        """Return ``NAME=value`` of what a command sees besides the environment of the image, names sorted."""
        env = self.env.values
        return tuple(f"{name}={value}" for name, value in sorted(self.args.items()) if env.get(name) != value)

    def note(self, created_by: str, step: int | None = None) -> None:
        """Add a line to the history. Raises BuildError where the graph grows too large."""
        self.budget.spend(len(created_by) + 100)
        if step is not None and self.pending is not None:
            self.history.append(self.pending)
            self.pending = None
        self.history.append(History(created_by, step))

    def lines(self) -> tuple[History, ...]:
        """Return all lines of the history."""
        return (*self.history, *([self.pending] if self.pending is not None else []))

    @property
    def cwd(self) -> str:
        """The working directory, as a clean path."""
        return fold.clean(str(self.config.get("WorkingDir") or "/"))

    @property
    def shell(self) -> tuple[str, ...]:
        """The SHELL of the stage."""
        default = fold.WINDOWS_SHELL if self.windows else fold.DEFAULT_SHELL
        return tuple(self.config.get("Shell") or default)
