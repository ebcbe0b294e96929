"""What a Dockerfile says of itself, for ``--call``."""

from __future__ import annotations

from contextlib import ExitStack

from ..dockerfile.lint.describe import list_targets
from ..dockerfile.lint.describe import outline as outline_of
from ..dockerfile.lint.described import BuildOutline, TargetList
from ..options import BuildOptions
from .build_findings import lint_options_of
from .check import KnownImages, open_for_check
from .graph_options import graph_options_of


def outline(options: BuildOptions) -> BuildOutline:
    """Return the arguments, secrets and agents that the target of a build asks for. Nothing runs.

    Raises:
        BuildError: The Dockerfile is wrong, or there is none.
    """
    with ExitStack() as stack:
        store, source = open_for_check(options, stack)
        known = lint_options_of(graph_options_of(options), KnownImages(store))
        return outline_of(source.text, source.name, known)


def targets(options: BuildOptions) -> TargetList:
    """Return the stages of a Dockerfile that ``options.target`` may name. Nothing runs.

    Raises:
        BuildError: The Dockerfile is wrong, or there is none.
    """
    with ExitStack() as stack:
        _, source = open_for_check(options, stack)
        return list_targets(source.text, source.name)
