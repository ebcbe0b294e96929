"""A check of a Dockerfile: which rules look at what, in BuildKit's order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import BuildError
from ..instructions import Arg, From, Instruction, Pairs
from ..parse import parse, trigger
from .check_settings import CheckSettings, settings_of
from .collected import Report
from .file_rules import check_casing, check_stage_names
from .from_platform import check_platform
from .lint_options import LintOptions, LintResult
from .parse_rules import check_forms
from .rules import OWN
from .source_text import SourceText
from .stage_rules import StageRules
from .stage_state import Scope, Size, of_image
from .stages import SCRATCH, LintStage, Stages

if TYPE_CHECKING:
    from .own_rules import OwnRules


def lint(
    text: str,
    file: str = "Dockerfile",
    options: LintOptions | None = None,
    instructions: tuple[Instruction, ...] | None = None,
) -> LintResult:
    """Return what the rules find in a Dockerfile, and the error that ended the check, if there is one.

    ``instructions`` are those of the text, if they are known already. A ``# check=`` that is malformed is such an
    error, as is a text that is no Dockerfile; what was found before it is returned too.
    """
    options = options or LintOptions()
    try:
        settings = settings_of(text, file, options.check)
    except BuildError as error:
        return LintResult((), error.in_text(text))
    fails = settings.error
    settings = replace(
        settings,
        skip=settings.skip | options.skip,
        enable=settings.enable | options.enable,
        skip_all=settings.skip_all or "all" in options.skip,
    )
    report = Report(settings)
    failed: BuildError | None = None
    try:
        _check(text, file, options, instructions, report)
    except BuildError as error:
        failed = error.in_text(text)
    report.raised(options.errors)
    return LintResult(tuple(report.findings), failed, fails)


def _check(
    text: str,
    file: str,
    options: LintOptions,
    instructions: tuple[Instruction, ...] | None,
    report: Report,
) -> None:
    source = SourceText(text, file)
    failed = None
    if instructions is None:
        try:
            instructions = parse(text, file)
        except BuildError as error:
            failed = error
            instructions = _before(text, file, source, error)
    items = list(instructions)
    check_forms(items, source, report)
    if failed is not None:
        raise failed
    for item in items:
        if isinstance(item, From):
            break
        if not isinstance(item, Arg):
            raise BuildError(
                f"{item.text.split()[0]} stands before the first FROM",
                where=item.source,
                hint="only ARG may stand there",
            )
    else:
        raise BuildError("the Dockerfile has no FROM", hint="start it with FROM IMAGE or FROM scratch")
    check_stage_names(items, report)
    check_casing(items, source, report)
    special = {item.source.start: report.settings.above(item.comments) for item in items if item.comments}
    stages = Stages(items, options, source, special, report)
    _Walk(stages, special, source, report).check()


def _before(text: str, file: str, source: SourceText, error: BuildError) -> tuple[Instruction, ...]:
    """Return the instructions above the one that can't be read."""
    if error.where is None or error.where.start < 2:
        return ()
    try:
        return parse(text[: source.start(error.where.start)], file)
    except BuildError:
        return ()


class _Walk:
    """Goes through the stages that are looked at."""

    def __init__(
        self, stages: Stages, special: dict[int, CheckSettings], source: SourceText, report: Report
    ) -> None:
        self._stages, self._special, self._source, self._report = stages, special, source, report
        self._size = Size()
        self._scopes: dict[int, Scope] = {}
        self._own: OwnRules | None = None
        wanted = [name for options in (report.settings, *special.values()) for name in options.enable]
        if any(name.startswith(OWN) for name in wanted):
            from .own_rules import OwnRules  # off by default, and a build should not wait for them

            self._own = OwnRules(stages, special, source, report)

    def check(self) -> None:
        """Check the stages in order. Raises BuildError at the first that can't be read."""
        checked = self._stages.checked()
        for stage in self._stages.list:
            if stage.index in checked and self._is_image(stage):
                check_platform(stage, self._stages.options, self._report)
        for stage in self._stages.list:
            if stage.index in checked:
                self._scopes[stage.index] = self._stage(stage)
        if self._own is not None:
            self._own.images(checked, self._scopes)

    def _is_image(self, stage: LintStage) -> bool:
        return stage.base is None and stage.image != SCRATCH

    def _settings(self, item: Instruction) -> CheckSettings:
        return self._special.get(item.source.start, self._report.settings)

    def _stage(self, stage: LintStage) -> Scope:
        scope = self._start(stage)
        later = {
            name: item.source.start
            for item in stage.body
            if isinstance(item, Arg | Pairs)
            for name, _ in (item.args if isinstance(item, Arg) else item.pairs)
        }
        rules = StageRules(self._stages, scope, self._source, self._report, later)
        own = self._own.stage() if self._own is not None else None
        triggers, scope.onbuild = scope.onbuild, ()
        for text in triggers:
            try:
                rules.apply(trigger(text, stage.head.source), self._report.settings)
            except BuildError as error:
                raise error.at(stage.head.source) from None
        for item in stage.body:
            settings = self._settings(item)
            if own is not None:
                own.apply(item, scope, settings)
            try:
                rules.apply(item, settings)
            except BuildError as error:
                raise error.at(item.source) from None
        return scope

    def _start(self, stage: LintStage) -> Scope:
        try:
            if stage.base is not None and stage.base in self._scopes:
                parent = self._scopes[stage.base]
                scope = parent.child()
                scope.onbuild = parent.onbuild
                return scope
            config = {} if stage.image == SCRATCH else self._stages.options.base(stage.image)
            return of_image(config, self._size)
        except BuildError as error:
            raise error.at(stage.head.source) from None
