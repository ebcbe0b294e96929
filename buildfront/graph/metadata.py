"""Instructions that change no file: each is folded into the stage's image config and its history."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..dockerfile import instructions as ast
from ..dockerfile import words
from . import config as fold
from .limits import Budget
from .step_graph import History


@dataclass
class Scope:
    """The state of a stage while its instructions are read: config, variables, history."""

    config: dict[str, Any]
    env: fold.Environment
    budget: Budget
    args: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    author: str = ""
    history: list[History] = field(default_factory=list)
    cmd_set: bool = False
    escape: str = "\\"

    def variables(self) -> Mapping[str, str]:
        """Return a view of the variables, which follows later changes."""
        return ChainMap(self.env.values, self.args)

    def expand(self, text: str) -> str:
        """Return ``text`` with its variables replaced. Raises BuildError."""
        return words.expand(text, self.variables(), self.escape)

    def note(self, created_by: str, step: int | None = None) -> None:
        """Add a line to the history. Raises BuildError where the graph grows too large."""
        self.budget.spend(len(created_by) + 100)
        self.history.append(History(created_by, step))

    @property
    def shell(self) -> tuple[str, ...]:
        """The SHELL of the stage."""
        return tuple(self.config.get("Shell") or fold.DEFAULT_SHELL)


def apply(item: ast.Instruction, scope: Scope) -> None:
    """Fold a metadata instruction into ``scope``. Raises BuildError."""
    note = item.text
    if isinstance(item, ast.Pairs):
        note = _pairs(item, scope)
    elif isinstance(item, ast.Word):
        note = _word(item, scope)
    elif isinstance(item, ast.Words):
        _words(item, scope)
    elif isinstance(item, ast.Entry):
        _entry(item, scope)
    elif isinstance(item, ast.Shell):
        scope.config["Shell"] = list(item.words)
    elif isinstance(item, ast.Healthcheck):
        fold.healthcheck(scope.config, item, scope.shell)
    elif isinstance(item, ast.Onbuild):
        triggers = scope.config["OnBuild"] = scope.config.get("OnBuild") or []
        triggers.append(item.trigger)
    scope.note(note)


def _pairs(item: ast.Pairs, scope: Scope) -> str:
    """Fold ENV or LABEL. All values of one instruction see the variables from before it."""
    pairs = [(scope.expand(name), scope.expand(value)) for name, value in item.pairs]
    if item.kind == "ENV":
        for name, value in pairs:
            scope.env.set(name, value)
    else:
        labels = scope.config["Labels"] = scope.config.get("Labels") or {}
        labels.update(pairs)
    return f"{item.kind} " + " ".join(f"{name}={value}" for name, value in pairs)


def _word(item: ast.Word, scope: Scope) -> str:
    """Fold USER, STOPSIGNAL or MAINTAINER."""
    if item.kind == "MAINTAINER":
        scope.author = item.value
        return f"{item.kind} {item.value}"
    value = scope.expand(item.value)
    scope.config["User" if item.kind == "USER" else "StopSignal"] = value
    return f"{item.kind} {value}"


def _words(item: ast.Words, scope: Scope) -> None:
    """Fold EXPOSE or VOLUME. A variable of EXPOSE may hold several ports."""
    values = [scope.expand(word) for word in item.values]
    if item.kind == "EXPOSE":
        fold.expose(scope.config, [port for value in values for port in value.split()])
        scope.budget.spend(10 * len(scope.config["ExposedPorts"]))
    else:
        fold.volume(scope.config, values)


def _entry(item: ast.Entry, scope: Scope) -> None:
    """Fold CMD or ENTRYPOINT."""
    argv = fold.command_words(item.command, scope.shell)
    if item.kind == "CMD":
        scope.config["Cmd"] = argv
        scope.cmd_set = True
        return
    scope.config["Entrypoint"] = argv
    if not scope.cmd_set:
        scope.config.pop("Cmd", None)  # a base's CMD belongs to the base's ENTRYPOINT
