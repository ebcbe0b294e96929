"""The rule about the platform of base images."""

from __future__ import annotations

from .collected import Report
from .lint_options import LintOptions
from .names import platform_parts
from .stages import LintStage


def check_platform(stage: LintStage, options: LintOptions, report: Report) -> None:
    """Note a base image that is for another platform than the stage."""
    config = options.base(stage.image)
    if config is None or not config.get("os") or not config.get("architecture"):
        return
    wanted = stage.platform or options.platform
    parts = platform_parts(wanted, options.build_platform)
    system, architecture = str(config["os"]), str(config["architecture"])
    if parts is None or parts == (system, architecture):
        return
    actual = "/".join(filter(None, (system, architecture, str(config.get("variant") or ""))))
    report.add(
        "InvalidBaseImagePlatform",
        f'Base image {stage.image} was pulled with platform "{actual}", expected "{wanted}" for current build',
        stage.head.source,
    )
