"""Instructions to a StepGraph. Pure: the base images' configs are given as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..dockerfile.instructions import Instruction
from ..errors import BuildError
from ..image import platform as platforms
from .limits import Budget
from .outline import Outline, Wanted
from .settings import GraphOptions
from .stage_builder import StageBuilder
from .step_graph import StepGraph
from .steps import Steps

Bases = Mapping[str, Mapping[str, Any]]


def references(
    instructions: Iterable[Instruction], options: GraphOptions, bases: Bases | None = None
) -> dict[str, Wanted]:
    """Return the images that the target needs, variables replaced, by the names that they have in a build.

    ``bases`` are the configs of the images that are known so far: their ONBUILD triggers may read more images. Call it
    again until it returns no new one. ``scratch`` is not among them. Raises BuildError.
    """
    return Outline(instructions, options, Budget(), bases or {}).references()


def build_graph(instructions: Iterable[Instruction], options: GraphOptions, bases: Bases) -> StepGraph:
    """Return the graph of all that the target needs.

    ``bases`` maps each reference of :func:`references` to its OCI image config. Equal inputs give equal graphs.
    Raises BuildError with the place of what is wrong.
    """
    budget = Budget()
    outline = Outline(instructions, options, budget, bases)
    steps = Steps(budget)
    for index in outline.needed:
        steps.stages[index] = StageBuilder(outline, outline.stages[index], bases, steps).build()
    warnings = [
        (None, f"the build argument {name} was given but no ARG asks for it")
        for name in outline.unused_args()
    ]
    return StepGraph(
        stages=tuple(steps.stages[index] for index in outline.needed),
        steps=tuple(steps.steps),
        target=outline.target,
        platform=options.platform,
        created=outline.created,
        image_platform=_image_platform(options, bases.get(steps.stages[outline.target].base)),
        warnings=tuple(warnings),
    )


def _image_platform(options: GraphOptions, base: Mapping[str, Any] | None) -> str:
    """Return the platform of the image: its base's, unless the user asked for one."""
    if base is None or options.platform_given:
        return options.platform
    try:
        return platforms.of(base)
    except BuildError:
        return options.platform
