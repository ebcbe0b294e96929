"""The rules about base images and users."""

from __future__ import annotations

from collections.abc import Callable

from ..instructions import Instruction, Word
from .check_settings import CheckSettings
from .collected import Report
from .lint_options import LintOptions
from .names import image_name
from .parse_rules import from_words
from .rules import OWN
from .source_text import SourceText
from .stage_state import Scope
from .stages import LintStage

_ROOT = ("root", "0")


def check_base_names(
    stage: LintStage, options: LintOptions, settings: CheckSettings, source: SourceText, report: Report
) -> None:
    """Note base images without a tag or with ``latest``, and those without a digest."""
    if stage.image in options.contexts or stage.image.startswith(("oci-layout://", "docker-image://")):
        return
    name = image_name(stage.image)
    if name is None or name.digest:
        return
    where = stage.head.source
    joined = source.joined(stage.head)
    _, _, rest = from_words(joined)
    if rest:
        where = source.place(joined.offset(rest[0].start), joined.offset(rest[0].end - 1) + 1)
    if name.tag in ("", "latest"):
        report.add(
            OWN + "LatestTag",
            f"{stage.image} may become another image: name a version",
            where,
            settings=settings,
        )
    report.add(
        OWN + "UnpinnedDigest",
        f"{stage.image} has no digest, so it may become another image",
        where,
        settings=settings,
    )


def check_user(
    stage: LintStage, scope: Scope, settings: Callable[[Instruction], CheckSettings], report: Report
) -> None:
    """Note a last stage whose user is root."""
    if scope.user is None or (scope.user and scope.user.partition(":")[0] not in _ROOT):
        return
    last = next(
        (item for item in reversed(stage.body) if isinstance(item, Word) and item.kind == "USER"), None
    )
    item: Instruction = stage.head if last is None else last
    report.add(
        OWN + "RootUser", "the program of the image runs as root", item.source, settings=settings(item)
    )
