"""What a Dockerfile says of itself: its targets, and the arguments, secrets and agents that a target asks for.

These are the answers to BuildKit's subrequests ``frontend.targets`` and ``frontend.outline``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import BuildError
from .. import words
from ..instructions import Arg, From, Instruction, Run
from ..mount_flags import flag as is_true
from ..parse import parse
from .check_settings import CheckSettings
from .collected import Report
from .described import BuildOutline, BuildTarget, OutlineItem, TargetList
from .lint_options import LintOptions
from .source_text import SourceText
from .stage_rules import StageRules
from .stage_state import Scope, Size, of_image
from .stages import SCRATCH, LintStage, Stages, expand


def description(comments: tuple[str, ...], name: str) -> str:
    """Return the text after ``name`` of the first comment that begins with it."""
    if name:
        for comment in comments:
            if comment.startswith(name + " "):
                return comment[len(name) + 1 :]
    return ""


def list_targets(text: str, file: str) -> TargetList:
    """Return the stages of a Dockerfile. Raises BuildError."""
    try:
        items = list(parse(text, file))
    except BuildError as error:
        raise error.in_text(text) from None
    heads = [item for item in items if isinstance(item, From)]
    found = tuple(
        BuildTarget(
            item.name,
            description(item.comments, item.name),
            item.image,
            item.platform,
            item is heads[-1],
            item.source,
        )
        for item in heads
    )
    return TargetList(found, text)


def outline(text: str, file: str, options: LintOptions) -> BuildOutline:
    """Return what the target of ``options`` asks for. Raises BuildError."""
    try:
        return _Outliner(text, file, options).outline()
    except BuildError as error:
        raise error.in_text(text) from None


@dataclass
class _Asked:
    """What one stage asks for. ``infos`` are the arguments that it knows, ``used`` those that it reads."""

    infos: dict[str, OutlineItem]
    used: set[str] = field(default_factory=set)
    secrets: dict[str, OutlineItem] = field(default_factory=dict)
    ssh: dict[str, OutlineItem] = field(default_factory=dict)
    caches: dict[str, OutlineItem] = field(default_factory=dict)


class _Outliner:
    def __init__(self, text: str, file: str, options: LintOptions) -> None:
        self._text, self._options = text, options
        items = list(parse(text, file))
        self._source = SourceText(text, file)
        if not any(isinstance(item, From) for item in items):
            raise BuildError("the Dockerfile has no FROM", hint="start it with FROM IMAGE or FROM scratch")
        self._report = Report(CheckSettings(skip_all=True))
        self._stages = Stages(items, options, self._source, {}, self._report)
        self._deps: dict[str, set[str]] = {}
        self._globals = self._global_args(items)

    def _global_args(self, items: list[Instruction]) -> dict[str, OutlineItem]:
        out: dict[str, OutlineItem] = {}
        values = dict(self._stages.automatic)
        for item in items:
            if not isinstance(item, Arg):
                break
            for name, default in item.args:
                deps: set[str] = set()
                if name in self._options.build_args:
                    values[name] = self._options.build_args[name]
                elif default is not None:
                    found = words.process(default, values, item.escape)
                    value, deps = found.text, set(found.matched)
                    if name in deps:
                        deps = (deps - {name}) | self._deps.get(name, set())
                    values[name] = value
                self._deps[name] = deps
                out[name] = self._item(name, item, values.get(name, ""))
        return out

    def _item(self, name: str, item: Instruction, value: str) -> OutlineItem:
        return OutlineItem(name, item.source, value, description(item.comments, name))

    def outline(self) -> BuildOutline:
        stages = self._stages
        target = len(stages.list) - 1
        if self._options.target:
            found = stages.find(self._options.target)
            if found is None:
                raise BuildError(
                    f"no stage is called {self._options.target!r}",
                    hint="--call=targets lists them",
                )
            target = found
        needed = stages.needed(target)
        size = Size()
        scopes: dict[int, Scope] = {}
        merged = _Asked({})
        args: dict[str, OutlineItem] = {}
        for stage in stages.list:
            if stage.index not in needed:
                continue
            asked = self._stage(stage, scopes, size)
            for name in asked.used:
                if name in asked.infos:
                    # The target's own stage is asked first, the stages that it needs after it.
                    args[name] = asked.infos[name]
            for mine, theirs in (
                (merged.secrets, asked.secrets),
                (merged.ssh, asked.ssh),
                (merged.caches, asked.caches),
            ):
                mine.update(theirs)
        head = stages.list[target].head
        return BuildOutline(
            head.name,
            description(head.comments, head.name),
            _by_line(args),
            _by_line(merged.secrets),
            _by_line(merged.ssh),
            _by_line(merged.caches),
            self._text,
        )

    def _stage(self, stage: LintStage, scopes: dict[int, Scope], size: Size) -> _Asked:
        asked = _Asked(dict(self._globals))
        for text in (stage.head.image, stage.head.platform):
            asked.used |= words.process(text, self._stages.globals, stage.head.escape).matched
        if stage.base is not None and stage.base in scopes:
            scope = scopes[stage.base].child()
        else:
            config = {} if stage.image == SCRATCH else self._options.base(stage.image)
            scope = of_image(config, size)
        scopes[stage.index] = scope
        rules = StageRules(self._stages, scope, self._source, self._report, {})
        for item in stage.body:
            if isinstance(item, Run):
                self._mounts(item, scope, asked)
            rules.apply(item, self._report.settings)
            if isinstance(item, Arg):
                self._arg(item, scope, asked)
        todo = list(asked.used)
        while todo:  # an argument of the top that another one reads is used as well
            more = self._deps.get(todo.pop(), set()) - asked.used
            asked.used |= more
            todo += more
        return asked

    def _arg(self, item: Arg, scope: Scope, asked: _Asked) -> None:
        for name, default in item.args:
            inherited = (
                default is None and name not in self._options.build_args and name in self._stages.globals
            )
            if not inherited:
                value = scope.env.get(name, "")
                if default is None and name not in self._options.build_args:
                    value = ""
                asked.infos[name] = self._item(name, item, value)
            asked.used.add(name)

    def _mounts(self, item: Run, scope: Scope, asked: _Asked) -> None:
        for mount in item.mounts:
            values = {key: expand(value, scope.env, item)[0] for key, value in mount.fields}
            required = "required" in values and is_true(mount.text, "required", values["required"])
            target = values.get("target", "")
            if mount.kind == "secret":
                name = values.get("source") or values.get("id") or posixpath.basename(target)
                _first(asked.secrets, name, OutlineItem(name, item.source, required=required))
            elif mount.kind == "ssh":
                name = values.get("id") or "default"
                _first(asked.ssh, name, OutlineItem(name, item.source, required=required))
            elif mount.kind == "cache":
                name = values.get("id") or posixpath.normpath(target)
                _first(asked.caches, name, OutlineItem(name, item.source))


def _first(found: dict[str, OutlineItem], name: str, item: OutlineItem) -> None:
    found.setdefault(name, item)


def _by_line(items: Mapping[str, OutlineItem]) -> tuple[OutlineItem, ...]:
    return tuple(sorted(items.values(), key=lambda item: item.where.start))
