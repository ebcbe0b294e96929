"""The golden cases: what each Dockerfile of testdata/dockerfiles becomes, as text to compare.

Run as a program it rewrites the expected files (``make golden``); the changes are reviewed like code.
Everything here is pure but for reading testdata: no store, no mounts, no host but the recorded ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildfront.dockerfile import parse
from buildfront.engine.ops.run_inputs import planned_mounts
from buildfront.graph import GraphOptions, RunOp, StepGraph, build_graph, references
from buildfront.graph.render import to_json
from buildfront.image.assemble import HistoryLine, image_config
from run_step import HostFacts, ImageDefaults, RunPlan, RunRequest, choose_isolation, plan

TESTDATA = Path(__file__).parent.parent / "testdata"
CASES = sorted(path.parent for path in (TESTDATA / "dockerfiles").glob("*/case.toml"))
ROOTFS = TESTDATA / "rootfs"


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def graph_of(case: Path) -> tuple[StepGraph, dict[str, Any], dict[str, Any]]:
    """The graph, the bases' configs and the case's settings."""
    settings = tomllib.loads((case / "case.toml").read_text())
    given = settings.get("options", {})
    options = GraphOptions(
        build_args=given.get("build_args", {}),
        target=given.get("target", ""),
        platform=given.get("platform", "linux/amd64"),
        labels=tuple((name, value) for name, value in given.get("labels", [])),
    )
    instructions = parse((case / "Dockerfile").read_text(), "Dockerfile")
    bases = {
        name: json.loads((TESTDATA / "bases" / f"{settings['bases'][name]}.json").read_text())
        for name in references(instructions, options)
    }
    return build_graph(instructions, options, bases), bases, settings


def request_of(op: RunOp, settings: dict[str, Any], number: int) -> RunRequest:
    """What is asked for by one RUN, for the golden root filesystem."""
    request = RunRequest.from_json(
        {"args": list(op.command), "rootfs": str(ROOTFS), **settings.get("run", {})}
    )
    return replace(
        request,
        image=ImageDefaults(env=op.env, user=op.user, working_dir=op.cwd),
        env=op.args + op.proxy,
        container_id=f"{number:064x}",
        network=op.network or request.network,
        run_mounts=planned_mounts(op, settings.get("secrets", ()), settings.get("agents", ())),
    )


def plan_of(op: RunOp, settings: dict[str, Any], number: int) -> RunPlan:
    """The RunPlan of one RUN on the recorded host."""
    host = HostFacts.from_json(json.loads((TESTDATA / "hosts" / f"{settings['host']}.json").read_text()))
    request = request_of(op, settings, number)
    return plan(replace(request, isolation=choose_isolation(request.isolation or "auto", host)[0]), host)


def requests(case: Path) -> list[RunRequest]:
    """What each RUN asks for."""
    graph, _, settings = graph_of(case)
    return [request_of(step.op, settings, step.id) for step in graph.steps if isinstance(step.op, RunOp)]


def plans(case: Path) -> dict[str, RunPlan]:
    """The plan of each RUN, complete, by the name of its file."""
    graph, _, settings = graph_of(case)
    runs = [(step.id, step.op) for step in graph.steps if isinstance(step.op, RunOp)]
    return {f"plan-{number}.json": plan_of(op, settings, number) for number, op in runs}


def _readable(case: Path, made: dict[str, Any]) -> dict[str, Any]:
    """The four hundred system calls of the filter as a digest, but where the case is about them."""
    seccomp = made["spec"]["linux"].get("seccomp")
    if seccomp and "seccomp" not in case.name:
        digest = hashlib.sha256(json.dumps(seccomp["syscalls"]).encode()).hexdigest()
        seccomp["syscalls"] = f"sha256:{digest}"
    return made


def expected(case: Path) -> dict[str, str]:
    """File names below ``expected/`` and their content."""
    graph, bases, _ = graph_of(case)
    out = {"graph.json": _dump(to_json(graph))}
    for name, made in ((name, item.to_json()) for name, item in plans(case).items()):
        out[name] = _dump(_readable(case, made))
    stage = graph.target_stage
    history = [HistoryLine(line.created_by, line.step is not None, None) for line in stage.history]
    config = image_config(
        config=stage.config,
        platform=graph.platform,
        author=stage.author,
        base=bases.get(stage.base, {}),
        layers=(),
        history=history,
        created=None,
    )
    out["config.json"] = _dump(config)
    return out


def main() -> None:
    """Rewrite every expected file, and say which changed."""
    for case in CASES:
        directory = case / "expected"
        before = {path.name: path.read_text() for path in directory.glob("*")} if directory.is_dir() else {}
        after = expected(case)
        if before != after:
            shutil.rmtree(directory, ignore_errors=True)
            os.mkdir(directory)
            for name, text in after.items():
                (directory / name).write_text(text)
            changed = sorted(name for name in before | after if before.get(name) != after.get(name))
            print(f"{case.name}: {', '.join(changed)}", file=sys.stderr)


if __name__ == "__main__":
    main()
