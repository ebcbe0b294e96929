"""A StepGraph as text, JSON, DOT and Mermaid. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ..text import visible
from .step_graph import CopyOp, GitTree, HttpFile, Inline, Operation, Step, StepGraph


def to_json(graph: StepGraph) -> dict[str, Any]:
    """Return the graph as plain JSON values; ``kind`` tells the operations apart."""
    return {
        "platform": graph.platform,
        "target": graph.target,
        "stages": [
            {
                "index": stage.index,
                "name": stage.name,
                "base": stage.base,
                "first": stage.first,
                "last": stage.last,
                "author": stage.author,
                "config": stage.config,
                "history": [dataclasses.asdict(item) for item in stage.history],
            }
            for stage in graph.stages
        ],
        "steps": [
            {
                "id": step.id,
                "stage": step.stage,
                "title": step.title,
                "lines": [step.source.start, step.source.end],
                "parent": step.parent,
                "inputs": list(step.inputs),
                "op": _operation(step.op),
                **({"internal": True} if step.internal else {}),
            }
            for step in graph.steps
        ],
        "warnings": [text for _, text in graph.warnings],
    }


_SOURCES = {Inline: "inline", HttpFile: "http", GitTree: "git"}
_LEFT_OUT = {
    "run": ("mounts", "script", "security", "devices"),
    "copy": ("for_mount", "parents", "excludes", "link"),
    "workdir": ("user", "created"),
}
"""The fields that are not there while they have their default, by operation."""


def _operation(op: Operation) -> dict[str, Any]:
    """Return an operation as JSON, without the fields that have their default."""
    fields = dataclasses.asdict(op)
    if isinstance(op, CopyOp):
        fields["sources"] = [
            source
            if isinstance(source, str)
            else {"kind": _SOURCES[type(source)], **dataclasses.asdict(source)}
            for source in op.sources
        ]
    return {"kind": op.kind} | {
        key: value for key, value in fields.items() if value or key not in _LEFT_OUT.get(op.kind, ())
    }


def labels(graph: StepGraph) -> Callable[[Step], str]:
    """Return the name that people know the step's stage by; "internal" for a step of no stage."""
    names = {stage.index: stage.name for stage in graph.stages}

    def name(step: Step) -> str:
        return "internal" if step.internal else names.get(step.stage) or f"stage-{step.stage}"

    return name


def places(graph: StepGraph) -> dict[int, str]:
    """Return for each step its stage and its number among the stage's steps: ``build 2/5``."""
    name = labels(graph)
    counts: dict[int, int] = {}
    numbers: dict[int, int] = {}
    for step in graph.steps:
        if not step.internal:
            numbers[step.id] = counts[step.stage] = counts.get(step.stage, 0) + 1
    return {
        step.id: name(step) + ("" if step.internal else f" {numbers[step.id]}/{counts[step.stage]}")
        for step in graph.steps
    }


def to_text(graph: StepGraph, notes: Mapping[int, str] | None = None) -> str:
    """Return a table: number, stage, inputs, what the cache holds, instruction."""
    rows = [("STEP", "STAGE", "NEEDS", "CACHE", "INSTRUCTION")]
    name = labels(graph)
    for step in graph.steps:
        needs = ",".join(str(item) for item in step.inputs) or "-"
        note = (notes or {}).get(step.id, "-")
        rows.append((str(step.id), name(step), needs, note, visible(step.title)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(row[column].ljust(widths[column]) for column in range(4)), row[4]]).rstrip()
        for row in rows
    )


def _quote(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')


def to_dot(graph: StepGraph) -> str:
    """Return the graph for Graphviz."""
    out = ["digraph build {", "  rankdir=TB;", "  node [shape=box];"]
    members: dict[int, list[Step]] = {}
    for step in graph.steps:
        if not step.internal:
            members.setdefault(step.stage, []).append(step)
    for stage in graph.stages:
        out.append(
            f'  subgraph "cluster_{stage.index}" {{ label="{_quote(stage.name or f"stage-{stage.index}")}";'
        )
        out += [f'    s{step.id} [label="{_quote(step.title)}"];' for step in members.get(stage.index, ())]
        out.append("  }")
    out += [f'  s{step.id} [label="{_quote(step.title)}"];' for step in graph.steps if step.internal]
    for step in graph.steps:
        for item in step.inputs:
            style = "" if item == step.parent else " [style=dashed]"
            out.append(f"  s{item} -> s{step.id}{style};")
    return "\n".join([*out, "}"])


def to_mermaid(graph: StepGraph) -> str:
    """Return the graph as a Mermaid flowchart."""
    out = ["flowchart TD"]
    for step in graph.steps:
        # Its own marks for characters: quotes would end the text, and it takes HTML.
        text = visible(step.title)
        for char, mark in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
            text = text.replace(char, mark)
        out.append(f'  s{step.id}["{text}"]')
    for step in graph.steps:
        out += [f"  s{item} {'-->' if item == step.parent else '-.->'} s{step.id}" for item in step.inputs]
    return "\n".join(out)
