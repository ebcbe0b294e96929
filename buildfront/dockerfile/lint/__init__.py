"""Rules about Dockerfiles: text and what is known of its base images in, findings out. Pure."""

from __future__ import annotations

from .findings import Edit, Fix, LintFinding
from .lint_options import LintOptions, LintResult
from .linter import lint
from .rules import RULES

__all__ = ["RULES", "Edit", "Fix", "LintFinding", "LintOptions", "LintResult", "lint"]
