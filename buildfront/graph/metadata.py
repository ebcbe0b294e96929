"""Instructions that change no file: each is folded into the stage's image config and its history."""

from __future__ import annotations

from ..dockerfile import instructions as ast
from ..dockerfile import words
from . import config as fold
from . import history, ports, signals
from .scope import Scope


def apply(item: ast.Instruction, scope: Scope) -> None:
    """Fold a metadata instruction into ``scope``. Raises BuildError."""
    if isinstance(item, ast.Pairs):
        scope.note(_pairs(item, scope))
    elif isinstance(item, ast.Word):
        scope.note(_word(item, scope))
    elif isinstance(item, ast.Words):
        scope.note(_words(item, scope))
    elif isinstance(item, ast.Entry):
        scope.note(_entry(item, scope))
    elif isinstance(item, ast.Shell):
        scope.config["Shell"] = list(item.words)
        scope.note(f"SHELL {history.plain_list(item.words)}")
    elif isinstance(item, ast.Healthcheck):
        fold.healthcheck(scope.config, item)
        scope.note(history.healthcheck(scope.config["Healthcheck"]))
    elif isinstance(item, ast.Onbuild):  # which BuildKit's history does not have
        triggers = scope.config["OnBuild"] = scope.config.get("OnBuild") or []
        triggers.append(item.trigger)
        scope.budget.spend(len(item.trigger) + 100)


def _pairs(item: ast.Pairs, scope: Scope) -> str:
    """Fold ENV or LABEL. All values of one instruction see the variables from before it."""
    pairs = [(scope.expand(name), scope.expand(value)) for name, value in item.pairs]
    if item.kind == "ENV":
        for name, value in pairs:
            scope.set_env(name, value)
    else:
        labels = scope.config["Labels"] = scope.config.get("Labels") or {}
        labels.update(pairs)
    return f"{item.kind} " + " ".join(f"{name}={value}" for name, value in pairs)


def _word(item: ast.Word, scope: Scope) -> str:
    """Fold USER, STOPSIGNAL or MAINTAINER."""
    value = item.value
    if item.kind == "MAINTAINER":
        scope.author = value
        return f"{item.kind} {value}"
    value = scope.expand(value)
    if item.kind == "STOPSIGNAL":
        signals.check(value)
    scope.config["User" if item.kind == "USER" else "StopSignal"] = value
    return f"{item.kind} {value}"


def _words(item: ast.Words, scope: Scope) -> str:
    """Fold EXPOSE or VOLUME. A variable of EXPOSE may hold several ports."""
    if item.kind == "VOLUME":
        volumes = [scope.expand(word.strip()) for word in item.values]
        fold.volume(scope.config, volumes)
        return f"VOLUME {history.plain_list(volumes)}"
    found = []
    for word in sorted(item.values):
        for part in words.expand_words(word, scope.variables, scope.escape):
            more = ports.ports_of(part)
            scope.budget.spend(10 * len(more))
            found += more
    fold.expose(scope.config, found)
    return f"EXPOSE {history.plain_list(found)}"


def _entry(item: ast.Entry, scope: Scope) -> str:
    """Fold CMD or ENTRYPOINT."""
    argv = fold.command_words(item.command, scope.shell)
    if item.kind == "CMD":
        scope.config["Cmd"] = argv
        scope.config["ArgsEscaped"] = True  # deprecated, and still written by docker and BuildKit
        scope.cmd_set = True
    else:
        scope.config["Entrypoint"] = argv
        if not scope.cmd_set:
            scope.config.pop("Cmd", None)  # a base's CMD belongs to the base's ENTRYPOINT
    return f"{item.kind} {history.quoted_list(argv)}"
