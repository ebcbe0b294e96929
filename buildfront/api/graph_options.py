"""The options of a build that change its graph."""

from __future__ import annotations

from ..context.named import named_context
from ..graph import GraphOptions
from ..image import platform as platforms
from ..options import BuildOptions


def platform_of(options: BuildOptions) -> str:
    """Return the platform of a build: the one that was given, or the machine's. Raises BuildError."""
    return platforms.normalise(options.platform) if options.platform else platforms.host()


def graph_options_of(options: BuildOptions) -> GraphOptions:
    """Return the options that change the graph. Raises BuildError for a named context that there is not."""
    return GraphOptions(
        options.build_args,
        options.target,
        platform_of(options),
        {name: named_context(name, value) for name, value in options.contexts.items()},
        options.labels,
        platforms.host(),
        bool(options.platform),
    )
