"""RUN --mount in the graph: what it reads, defaults, variables, errors with their place."""

from __future__ import annotations

from typing import Any

import pytest

from buildfront.dockerfile import parse
from buildfront.errors import BuildError
from buildfront.graph import (
    CopyOp,
    GraphOptions,
    NamedContext,
    RunOp,
    SourceOp,
    StepGraph,
    build_graph,
    references,
)

CONTEXTS = {
    "files": NamedContext("dir", "/somewhere"),
    "tools": NamedContext("image", "docker-image://tools:1"),
}


def graph(text: str, **more: Any) -> StepGraph:
    """A graph whose images have no config."""
    options = GraphOptions(contexts=CONTEXTS, **more)
    instructions = parse(text, "Dockerfile")
    return build_graph(instructions, options, {name: {} for name in references(instructions, options)})


def run(made: StepGraph) -> RunOp:
    """The last RUN."""
    return [step.op for step in made.steps if isinstance(step.op, RunOp)][-1]


def origin(made: StepGraph, number: int = 0) -> Any:
    """What the mount of that number reads."""
    place = run(made).mounts[number].origin
    assert place is not None
    return made.step(place).op


def test_of_a_context_a_copy_is_made_that_is_no_layer() -> None:
    made = graph("FROM base\nRUN --mount=target=/src,source=sub make")
    mount = run(made).mounts[0]
    assert (mount.kind, mount.target, mount.source, mount.read_only) == ("bind", "/src", "/content", True)
    op = origin(made)
    assert isinstance(op, CopyOp)
    assert (op.sources, op.dest, op.origin.name, op.for_mount) == (("/sub",), "/content", "", True)


def test_two_mounts_of_one_context_share_the_copy() -> None:
    made = graph("FROM base\nRUN --mount=target=/a make\nRUN --mount=target=/b,rw make\nCOPY . /c")
    assert sum(isinstance(step.op, CopyOp) for step in made.steps) == 2


def test_a_source_with_the_signs_of_a_pattern_is_none() -> None:
    op = origin(graph("FROM base\nRUN --mount=target=/a,source='a*[b]?' make"))
    assert op.sources == ("/a[*][[]b][?]",)


def test_a_source_can_not_climb() -> None:
    assert origin(graph("FROM base\nRUN --mount=target=/a,source=../../etc make")).sources == ("/etc",)


def test_from_a_stage_an_image_a_named_context_and_nothing() -> None:
    made = graph(
        "FROM base AS one\nRUN one\nFROM base\nRUN --mount=from=one,target=/a --mount=from=0,target=/b "
        "--mount=from=tools,target=/c --mount=from=files,target=/d --mount=from=scratch,target=/e "
        "--mount=from=other,target=/f,source=x make"
    )
    mounts = run(made).mounts
    assert mounts[0].origin == mounts[1].origin == made.stages[0].last
    assert origin(made, 2) == SourceOp("docker-image://tools:1", "linux/amd64")
    assert origin(made, 3).origin.name == "files"
    assert origin(made, 4).reference == "scratch"
    assert (origin(made, 5).reference, mounts[5].source) == ("other", "/x")
    step = next(step for step in made.steps if step.op is run(made))
    assert set(step.inputs) == {step.parent, *(mount.origin for mount in mounts)}


def test_a_stage_that_only_a_mount_reads_is_needed_and_no_other() -> None:
    made = graph(
        "FROM base AS one\nRUN a\nFROM base AS two\nRUN b\nFROM base\nRUN --mount=from=one,target=/a c"
    )
    assert [stage.name for stage in made.stages] == ["one", ""]


def test_variables_and_the_working_directory_count() -> None:
    made = graph(
        "FROM base\nARG A=one\nENV B=two\nWORKDIR /w\nRUN --mount=type=cache,target=$A/$B,id=${A}-c make"
    )
    mount = run(made).mounts[0]
    assert (mount.target, mount.id) == ("/w/one/two", "one-c")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            "type=cache,target=/c/",
            {"target": "/c", "id": "/c", "sharing": "shared", "read_only": False, "origin": None},
        ),
        ("type=cache,target=/c,ro", {"read_only": True}),
        ("target=/c,readonly=false", {"read_only": False}),
        ("type=secret,id=a/b", {"target": "", "id": "a/b", "required": False}),
        ("type=secret,target=/x/token", {"target": "/x/token", "id": "token"}),
        ("type=secret,env=TOKEN", {"env": "TOKEN", "id": "TOKEN"}),
        ("type=secret,source=y", {"id": "y"}),
        ("target=/m,source=$NOTHING,from=", {"source": "/content"}),
        ("type=cache,target=./c/", {"target": "/c", "id": "c"}),
        ("type=cache,target=/c,source=../part", {"source": "/part", "origin": None}),
        ("type=cache,target=/c,source=/a,uid=5,mode=0700", {"uid": None, "mode": None}),
        ("type=cache,target=/c,source=..,uid=5,mode=0700", {"source": "/", "uid": 5, "mode": 0o700}),
        ("type=tmpfs,target=/c,ro", {"read_only": True}),
        ("type=ssh", {"id": "default", "target": ""}),
        ("type=ssh,required=1,mode=0666,uid=0", {"required": True, "mode": 0o666, "uid": 0, "gid": None}),
        ("type=tmpfs,target=t,size=1k", {"target": "/t", "size": 1024}),
    ],
)
def test_defaults(text: str, fields: dict[str, Any]) -> None:
    mount = run(graph(f"FROM base\nRUN --mount={text} make")).mounts[0]
    assert {name: getattr(mount, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=bind", "target=PATH is missing"),
        ("type=cache,id=x", "target=PATH is missing"),
        ("type=tmpfs", "target=PATH is missing"),
        ("type=secret", "id=ID is missing"),
        ("target=/", "the root directory"),
        ("target=..", "the root directory"),
        ("target=a/../..", "the root directory"),
        ("target=/proc", "nothing can be mounted there"),
        ("target=/x/../proc/self/fd", "nothing can be mounted there"),
        ("target=$NOTHING", "target=PATH is missing"),
        ("type=cache,target=/a,mode=$NOTHING", "mode is empty"),
        ("type=secret,id=x,source=y", "are both the id of the secret"),
        ("type=odd$NOTHING,target=/a", "unknown type 'odd'"),
        ("type=ssh$NOTHING,source=a", "unknown key 'source' for type=ssh"),
        ("target=/a,rw=maybe", "neither true nor false"),
        ("type=cache,target=/a,sharing=lockd", "unknown sharing 'lockd'"),
        ("type=cache,target=/a,uid=bob", "a number is wanted"),
        ("type=cache,target=/a,gid=4294967295", "a number is wanted"),
        ("type=cache,target=/a,mode=9", "octal"),
        ("type=tmpfs,target=/a,size=big", "size=big"),
        ("from=later,target=/a", "RUN --mount from=later: that stage comes later"),
        ("from=1,target=/a", "comes later"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        graph(f"FROM base AS first\nRUN --mount={text} make\nFROM first AS later", target="first")
    assert words in str(caught.value)
    assert caught.value.where is not None
    assert caught.value.where.start == 2


def test_a_trigger_may_mount_what_it_can_know() -> None:
    text = "FROM base\nRUN x"
    instructions = parse(text, "Dockerfile")
    config = {"config": {"OnBuild": ["RUN --mount=type=cache,target=/c make"]}}
    made = build_graph(instructions, GraphOptions(), {"base": config})
    assert [len(step.op.mounts) for step in made.steps if isinstance(step.op, RunOp)] == [1, 0]
