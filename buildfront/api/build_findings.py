"""The check of a Dockerfile that goes with its build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dockerfile.lint import LintOptions, LintResult
from ..dockerfile.lint.check_settings import BUILD_ARG
from ..errors import BuildError
from ..graph import GraphOptions


def lint_options_of(options: GraphOptions, bases: Mapping[str, Mapping[str, Any]]) -> LintOptions:
    """Return what the rules need to know of a build."""
    return LintOptions(
        build_args=options.build_args,
        target=options.target,
        platform=options.platform,
        build_platform=options.build_platform,
        contexts={
            name: item.value if item.kind == "image" else "" for name, item in options.contexts.items()
        },
        bases=bases,
        check=options.build_args.get(BUILD_ARG),
    )


def refuse_findings(result: LintResult) -> None:
    """Raise BuildError where the Dockerfile says that its findings are errors, and there are some."""
    if not result.fails or not result.findings:
        return
    names = ", ".join(dict.fromkeys(found.rule for found in result.findings))
    first = result.findings[0]
    raise BuildError(
        f"lint violation found for rules: {names}",
        where=first.where,
        hint=f"{first.message}; --check shows all",
    )
