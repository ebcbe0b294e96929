"""Instructions to a step graph: what depends on what, with every variable replaced and every default filled in.

Pure: base images are given as data. :mod:`buildfront.graph.step_graph` is the glossary.
"""

from __future__ import annotations

from .builder import build_graph, references
from .settings import GraphOptions, NamedContext
from .step_graph import CopyOp, History, Origin, RunOp, SourceOp, Stage, Step, StepGraph, WorkdirOp

__all__ = [
    "CopyOp",
    "GraphOptions",
    "History",
    "NamedContext",
    "Origin",
    "RunOp",
    "SourceOp",
    "Stage",
    "Step",
    "StepGraph",
    "WorkdirOp",
    "build_graph",
    "references",
]
