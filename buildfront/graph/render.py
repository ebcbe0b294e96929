"""A StepGraph as text, JSON, DOT and Mermaid. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .model import Operation, Step, StepGraph


def to_json(graph: StepGraph) -> dict[str, Any]:
    """Plain JSON values; ``kind`` tells the operations apart."""
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


def _operation(op: Operation) -> dict[str, Any]:
    """``mounts``, ``for_mount`` and the user of a WORKDIR stand there alone where they say something."""
    fields = dataclasses.asdict(op)
    return {"kind": op.kind} | {
        key: value
        for key, value in fields.items()
        if value or (key not in ("mounts", "for_mount") and (op.kind, key) != ("workdir", "user"))
    }


def label(graph: StepGraph, step: Step) -> str:
    """``stage`` of a step as people call it; "internal" for one that no stage has."""
    if step.internal:
        return "internal"
    stage = next((item for item in graph.stages if item.index == step.stage), None)
    return (stage.name if stage else "") or f"stage-{step.stage}"


def to_text(graph: StepGraph, notes: Mapping[int, str] | None = None) -> str:
    """A table: number, stage, inputs, what the cache holds, instruction."""
    rows = [("STEP", "STAGE", "NEEDS", "CACHE", "INSTRUCTION")]
    for step in graph.steps:
        needs = ",".join(str(item) for item in step.inputs) or "-"
        rows.append((str(step.id), label(graph, step), needs, (notes or {}).get(step.id, "-"), step.title))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(row[column].ljust(widths[column]) for column in range(4)), row[4]]).rstrip()
        for row in rows
    )


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def to_dot(graph: StepGraph) -> str:
    """Graphviz."""
    out = ["digraph build {", "  rankdir=TB;", "  node [shape=box];"]
    for stage in graph.stages:
        out.append(
            f'  subgraph "cluster_{stage.index}" {{ label="{_quote(stage.name or f"stage-{stage.index}")}";'
        )
        out += [
            f'    s{step.id} [label="{_quote(step.title)}"];'
            for step in graph.steps
            if step.stage == stage.index and not step.internal
        ]
        out.append("  }")
    out += [f'  s{step.id} [label="{_quote(step.title)}"];' for step in graph.steps if step.internal]
    for step in graph.steps:
        for item in step.inputs:
            style = "" if item == step.parent else " [style=dashed]"
            out.append(f"  s{item} -> s{step.id}{style};")
    return "\n".join([*out, "}"])


def to_mermaid(graph: StepGraph) -> str:
    """Mermaid flowchart."""
    out = ["flowchart TD"]
    for step in graph.steps:
        text = step.title.replace('"', "#quot;")
        out.append(f'  s{step.id}["{text}"]')
    for step in graph.steps:
        out += [f"  s{item} {'-->' if item == step.parent else '-.->'} s{step.id}" for item in step.inputs]
    return "\n".join(out)
