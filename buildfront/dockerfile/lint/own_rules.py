"""buildfront's own rules put together: those about single instructions, stages and base images."""

from __future__ import annotations

from collections.abc import Mapping

from ..instructions import Copy, Instruction, Run
from .check_settings import CheckSettings
from .collected import Report
from .copy_rules import CopyRules
from .image_rules import check_base_names, check_user
from .other_readers import check_other_readers
from .package_rules import check_packages
from .run_rules import check_script
from .run_script import RunScript
from .source_text import SourceText
from .stage_state import Scope
from .stages import SCRATCH, Stages


class OwnRules:
    """The rules for one check."""

    def __init__(
        self, stages: Stages, special: Mapping[int, CheckSettings], source: SourceText, report: Report
    ) -> None:
        self._stages, self._special, self._source, self._report = stages, special, source, report

    def stage(self) -> OwnStageRules:
        """Return the rules for the instructions of one stage."""
        return OwnStageRules(self._stages, self._source, self._report)

    def _settings(self, item: Instruction) -> CheckSettings:
        return self._special.get(item.source.start, self._report.settings)

    def images(self, checked: set[int], scopes: Mapping[int, Scope]) -> None:
        """Check the base images, the user of the last stage, and the file as a whole."""
        check_other_readers(self._source.text, self._source.file, self._report)
        options = self._stages.options
        for stage in self._stages.list:
            if stage.index in checked and stage.base is None and stage.image != SCRATCH:
                check_base_names(stage, options, self._settings(stage.head), self._source, self._report)
        target = self._stages.find(options.target) if options.target else None
        stage = self._stages.list[-1 if target is None else target]
        scope = scopes.get(stage.index)
        if scope is not None:
            check_user(stage, scope, self._settings, self._report)


class OwnStageRules:
    """The rules for the instructions of one stage, in order."""

    def __init__(self, stages: Stages, source: SourceText, report: Report) -> None:
        self._copies = CopyRules(stages.options, source, report)
        self._source, self._report = source, report

    def apply(self, item: Instruction, scope: Scope, settings: CheckSettings) -> None:
        """Check an instruction; ``scope`` is the state before it."""
        self._copies.token(item, settings)
        if isinstance(item, Copy):
            self._copies.copy(item, scope, settings)
        elif isinstance(item, Run):
            script = RunScript(item, scope.shell, self._source)
            check_packages(script, scope.env, settings, self._report)
            check_script(script, scope.shell, settings, self._report)
            self._copies.run(script)
