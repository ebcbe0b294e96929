"""Instructions to a graph: scopes, stages, origins, the folded config."""

import copy
import io
import json
import posixpath

import pytest

from buildfront.dockerfile import parse
from buildfront.engine.events import Event
from buildfront.errors import BuildError
from buildfront.graph import (
    CopyOp,
    GraphOptions,
    History,
    NamedContext,
    Origin,
    RunOp,
    SourceOp,
    WorkdirOp,
    build_graph,
    references,
    render,
)
from buildfront.progress.plain import Plain

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def graph(text, bases=None, **options):
    return build_graph(parse(text, "D"), GraphOptions(**options), bases or {})


def config(text, bases=None, **options):
    return graph(text, bases, **options).target_stage.config


def env(text, bases=None, **options):
    return [item for item in config(text, bases, **options)["Env"] if item != PATH]


def runs(found):
    return [step.op for step in found.steps if isinstance(step.op, RunOp)]


def failure(text, bases=None, **options):
    with pytest.raises(BuildError) as caught:
        graph(text, bases, **options)
    return caught.value


def base(**fields):
    return {"a": {"config": fields}}


# arguments


def test_a_global_argument_is_for_from():
    found = graph("ARG v=1\nFROM a:$v\nRUN x\nLABEL l=$v")
    assert found.steps[0].op == SourceOp("a:1", "linux/amd64")
    assert runs(found)[0].args == ()
    assert found.target_stage.config["Labels"] == {"l": ""}


def test_a_redeclared_global_argument_is_seen():
    found = graph("ARG v=1\nFROM a\nARG v\nRUN x\nLABEL l=$v")
    assert runs(found)[0].args == ("v=1",)
    assert found.target_stage.config["Labels"] == {"l": "1"}


def test_the_stages_own_default_wins_over_the_global_one():
    assert env("ARG v=1\nFROM a\nARG v=2\nENV e=$v") == ["e=2"]


def test_build_arguments_override():
    text = "ARG v=1\nFROM a:$v\nARG v=2\nARG w\nENV e=$v-$w"
    found = graph(text, build_args={"v": "3", "w": "4"})
    assert found.target_stage.base == "a:3"
    assert "e=3-4" in found.target_stage.config["Env"]
    assert found.warnings == ()


def test_an_undeclared_build_argument_is_not_seen_and_told():
    found = graph("FROM a\nENV e=$v\nRUN x", build_args={"v": "3", "u": "1"})
    assert "e=" in found.target_stage.config["Env"]
    assert runs(found)[0].args == ()
    assert [text.split()[3] for _, text in found.warnings] == ["u", "v"]


@pytest.mark.parametrize(
    ("lines", "sees", "exports"),
    [
        ("ENV v=e\nARG v=a", "a", ("v=a",)),
        ("ARG v=a\nENV v=e", "e", ()),
        ("ENV v=e\nARG v", "e", ()),
        ("ENV v=e\nARG v=e", "e", ()),
        ("ARG v=a\nENV v=e\nARG v=b", "b", ("v=b",)),
        ("ARG v=a\nARG v=${v}b", "ab", ("v=ab",)),
        ("ENV v=e\nARG v=${v}a", "ea", ("v=ea",)),
        ("ENV base=e\nARG base=a", "", ("base=a",)),
    ],
)
def test_the_later_of_env_and_arg_counts(lines, sees, exports):
    found = graph(f"FROM a\n{lines}\nRUN x\nLABEL l=$v")
    assert runs(found)[0].args == exports
    assert found.target_stage.config["Labels"] == {"l": sees}


def test_a_build_argument_hides_the_bases_environment():
    text = "FROM a\nARG v\nRUN x\nENV w=$v"
    found = graph(text, base(Env=["v=1"]), build_args={"v": "2"})
    assert runs(found)[0].args == ("v=2",) and "v=1" in runs(found)[0].env
    assert found.target_stage.config["Env"][0] == "v=1" and "w=2" in found.target_stage.config["Env"]


def test_path_can_be_an_argument():
    found = graph("FROM a\nARG PATH=/my:$PATH\nRUN x", base(Env=["PATH=/bin"]))
    assert runs(found)[0].args == ("PATH=/my:/bin",)
    assert found.target_stage.config["Env"] == ["PATH=/bin"]


def test_a_stage_starts_with_env_again():
    text = "FROM a AS one\nENV v=e\nARG v=a w=b\nFROM one\nRUN x"
    assert runs(graph(text))[0].args == ("w=b",)


def test_arguments_are_exported_by_name_and_shown_in_the_order_of_the_lines():
    found = graph("FROM a\nARG z=1\nARG b=2 none\nARG z=3\nENV b=4\nRUN x")
    assert runs(found)[0].args == ("z=3",)
    assert found.target_stage.history[-1].created_by == "RUN |3 z=3 b=4 none= /bin/sh -c x # buildkit"
    assert runs(graph("FROM a\nARG z=1 a=2\nRUN x"))[0].args == ("a=2", "z=1")


@pytest.mark.parametrize(("target", "value"), [("", "last"), ("one", "one"), ("ONE", "ONE"), ("1", "1")])
def test_targetstage(target, value):
    text = "FROM a AS one\nARG TARGETSTAGE\nENV e=$TARGETSTAGE\nFROM one AS last\nRUN x"
    assert f"e={value}" in config(text, target=target)["Env"]
    assert "e=default" in config("FROM a\nARG TARGETSTAGE\nENV e=$TARGETSTAGE")["Env"]


def test_arguments_for_the_builder_are_no_surprise():
    given = {"BUILDKIT_SYNTAX": "dockerfile.v0", "SOURCE_DATE_EPOCH": "007", "BUILDKIT_SBOM_SCAN_STAGE": "1"}
    text = "FROM a\nARG SOURCE_DATE_EPOCH BUILDKIT_SYNTAX BUILDKIT_SBOM_SCAN_STAGE\nRUN x"
    found = graph(text, build_args=given)
    assert found.warnings == () == graph("FROM a", build_args=given).warnings
    assert runs(found)[0].args == ("BUILDKIT_SYNTAX=dockerfile.v0", "SOURCE_DATE_EPOCH=7")
    assert runs(graph(text, build_args={"SOURCE_DATE_EPOCH": ""}))[0].args == ()
    cache = graph(
        "FROM a\nRUN --mount=type=cache,target=/c x", build_args={"BUILDKIT_CACHE_MOUNT_NS": "mine"}
    )
    assert runs(cache)[0].mounts[0].id == "mine//c"
    assert "whole number of seconds" in str(failure("FROM a", build_args={"SOURCE_DATE_EPOCH": "now"}))
    for text in ("-1", "253402300800", "9" * 5000, "1.5"):
        assert failure(f"ARG SOURCE_DATE_EPOCH={text}\nFROM a").where.start == 2


def test_the_time_of_the_image():
    assert graph("FROM a\nWORKDIR /w").created is None
    given = graph("ARG SOURCE_DATE_EPOCH=1\nFROM a\nWORKDIR /w", build_args={"SOURCE_DATE_EPOCH": "0"})
    assert given.created == 0 and given.steps[-1].op == WorkdirOp("/w", created=0)
    assert graph("ARG SOURCE_DATE_EPOCH=1\nFROM a").created == 1


def test_only_the_fields_of_docker_images_are_inherited():
    found = config(
        "FROM a", base(Hostname="x", Domainname="", Labels={"a": "b"}, ArgsEscaped=True, Env=["PATH=/"])
    )
    assert found == {"Env": ["PATH=/"], "Labels": {"a": "b"}, "ArgsEscaped": True}


def test_an_argument_counts_from_its_line():
    assert env("FROM a\nENV e=$v\nARG v=1\nENV f=$v") == ["e=", "f=1"]


def test_arguments_end_with_the_stage_and_are_inherited_by_its_children():
    text = "FROM a AS one\nARG v=1\nFROM one AS two\nENV e=$v\nFROM a\nENV f=$v\nCOPY --from=two /x /x"
    found = graph(text)
    assert "e=1" in found.stages[1].config["Env"]
    assert "f=" in found.stages[2].config["Env"]


def test_defaults_see_what_is_above():
    assert graph("ARG a=1\nARG b=$a-2\nFROM x:$b").target_stage.base == "x:1-2"
    assert env("FROM a\nARG a=1\nARG b=${a}2\nENV e=$b") == ["e=12"]
    assert env("FROM a\nARG a=1 b=${a}2\nENV e=$b") == ["e=12"]


def test_proxy_arguments_need_no_arg_and_are_kept_apart():
    found = graph("FROM a\nRUN x\nARG NO_PROXY\nRUN y", build_args={"HTTP_PROXY": "p", "NO_PROXY": "n"})
    first, second = runs(found)
    assert first.args == () and first.proxy == ("HTTP_PROXY=p", "NO_PROXY=n")
    assert second.args == ("NO_PROXY=n",) and second.proxy == ("HTTP_PROXY=p",)
    assert found.warnings == ()


def test_platform_arguments():
    found = graph(
        "FROM --platform=$BUILDPLATFORM a\nENV e=$TARGETARCH\n"
        "ARG TARGETARCH TARGETVARIANT\nENV f=$TARGETARCH$TARGETVARIANT",
        platform="linux/arm/v7",
        build_platform="linux/amd64",
    )
    assert found.steps[0].op == SourceOp("a", "linux/amd64")
    assert [item for item in found.target_stage.config["Env"] if item != PATH] == ["e=", "f=armv7"]


def test_from_with_nothing_left():
    error = failure("ARG v\nFROM $v")
    assert "empty after its variables" in str(error) and error.where.start == 2


def test_expansion_errors_have_their_place():
    assert failure("FROM a\nENV e=${v:?no}").where.start == 2
    assert failure("ARG e=${v:?no}\nFROM a").where.start == 1
    assert failure("FROM ${v").where.start == 1


@pytest.mark.parametrize(
    "text", ["ARG p\nFROM --platform=$p a", "\nFROM --platform=a/b/c/d b", "\nFROM --platform=x b"]
)
def test_a_bad_platform(text):
    assert failure(f"{text}\nFROM c").where.start == 2


def test_the_escape_directive_counts_in_expansion():
    found = graph("# escape=`\nFROM scratch\nENV v=1\nLABEL l=C:\\dir`$v$v\nWORKDIR /a\\b\nCOPY x\\y /d`$v/")
    assert found.target_stage.config["Labels"] == {"l": "C:\\dir$v1"}
    assert found.steps[1].op == WorkdirOp("/a\\b")
    assert found.steps[2].op.sources == ("x\\y",)
    assert found.steps[2].op.dest == "/d$v/"


# stages


def test_unneeded_stages_are_left_out():
    text = "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM one AS three\nRUN 3"
    found = graph(text)
    assert [stage.index for stage in found.stages] == [0, 2]
    assert [step.title for step in found.steps] == ["FROM a AS one", "RUN 1", "RUN 3"]
    assert found.steps[2].parent == found.steps[1].id == 1
    assert set(references(parse(text), GraphOptions())) == {"a"}


@pytest.mark.parametrize(("target", "index"), [("two", 1), ("TWO", 1), ("0", 0), ("2", 2), ("", 2)])
def test_target(target, index):
    assert graph("FROM a AS one\nFROM b AS two\nFROM c", target=target).target == index


@pytest.mark.parametrize(
    ("target", "hint"),
    [("tow", "did you mean two?"), ("9", "known are one, two"), ("²", "known are one, two")],
)
def test_unknown_target(target, hint):
    error = failure("FROM a AS one\nFROM b AS two", target=target)
    assert error.what == f"no stage is called {target!r}" and error.hint == hint


def test_copy_from_a_stage_by_name_and_index():
    for name in ("one", "ONE", "0"):
        found = graph(f"FROM a AS one\nRUN 1\nFROM b\nCOPY --from={name} /x /y")
        copied = found.steps[-1]
        assert copied.op == CopyOp(("/x",), "/y", Origin("step", step=1))
        assert copied.inputs == (2, 1) and copied.parent == 2


def test_copy_from_an_image_is_one_source():
    text = "FROM b\nCOPY --from=a:1 /x /y\nCOPY --from=a:1 /z /y"
    found = graph(text)
    assert [step.op.kind for step in found.steps] == ["source", "source", "copy", "copy"]
    assert found.steps[2].op.origin == found.steps[3].op.origin == Origin("step", step=1)
    assert found.target_stage.last == 3 and found.target_stage.first == 0
    assert list(references(parse(text), GraphOptions())) == ["b", "a:1"]


def test_copy_from_the_image_of_another_platform_is_another_source():
    found = graph("FROM --platform=linux/arm64 a\nCOPY --from=a /x /y")
    assert [step.op.platform for step in found.steps[:2]] == ["linux/arm64", "linux/amd64"]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("FROM a\nCOPY --from=two /x /y\nFROM b AS two\nFROM b\nCOPY --from=0 /x /y", "comes later", 2),
        ("FROM a AS one\nCOPY --from=two / /\nFROM b AS two\nFROM one", "comes later", 2),
        ("FROM a AS one\nCOPY --from=two / /\nFROM one AS two\nFROM two", "comes later", 2),
        ("FROM a AS one\nCOPY --from=one /x /y", "in a circle", 2),
        ("FROM a\nCOPY --from=0 /x /y", "in a circle", 2),
        ("FROM a AS one\nCOPY --from=two / /\nFROM a AS two\nCOPY --from=one / /\nFROM a", "in a circle", 4),
        ("FROM a AS one\nRUN --mount=from=two x\nFROM a AS two\nCOPY --from=0 / /", "in a circle", 4),
        ("FROM a\nCOPY --from=7 /x /y", "no stage of that number", 2),
        ("FROM a\nCOPY --from=-1 /x /y", "no stage of that number", 2),
        (f"FROM a\nCOPY --from={'9' * 5000} /x /y", "no stage of that number", 2),
        ("FROM a\nCOPY --from=$x /x /y", "takes no variable", 2),
        ("FROM a\nCOPY --from=BAD /x /y\nFROM b", "invalid image reference 'BAD'", 2),
        ("FROM BAD\nFROM b", "invalid image reference 'BAD'", 1),
    ],
)
def test_what_no_stage_can_read(text, what, line):
    error = failure(text)
    assert what in str(error) and error.where.start == line


def test_many_stages_that_read_each_other_are_checked_in_time():
    lines = [f"FROM a AS s{n}\n" + f"COPY --from=s{n - 1} / /\n" * (n > 0) for n in range(3000)]
    assert len(graph("".join(lines)).stages) == 3000


def test_the_last_stage_of_a_name_counts():
    text = "FROM a AS one\nFROM b AS One\nFROM c\nCOPY --from=one / /"
    found = graph(text)
    assert [stage.base for stage in found.stages] == ["b", "c"]
    assert graph(text, target="one").target == 1
    assert graph("FROM a AS one\nFROM one AS x\nFROM b AS one\nFROM x").target_stage.base == "a"
    later = "FROM a AS one\nFROM b\nCOPY --from=one / /\nFROM c AS one\nFROM 1 AS x"
    assert "comes later" in str(failure(later, target="1"))


def test_a_stage_is_found_in_any_case():
    found = graph("FROM a AS One\nRUN x\nFROM ONE")
    assert found.target_stage.base == "a"


def test_copy_from_scratch_is_the_empty_image():
    text = "FROM a\nCOPY --from=scratch . /x"
    assert list(references(parse(text), GraphOptions())) == ["a"]
    assert graph(text).steps[1].op == SourceOp("scratch")


def test_a_stage_named_like_its_image():
    found = graph("FROM a AS a\nFROM a AS b")
    assert found.target_stage.base == "a" and len(found.steps) == 1


def test_scratch():
    found = graph("FROM scratch\nCOPY x /")
    assert found.steps[0].op.reference == "scratch"
    assert references(parse("FROM scratch"), GraphOptions()) == {}


def test_instruction_before_from():
    error = failure("RUN x\nFROM a")
    assert "RUN stands before the first FROM" in str(error) and error.where.start == 1


def test_no_from():
    assert "has no FROM" in str(failure("ARG a=1"))


def test_named_contexts():
    contexts = {"dir": NamedContext("dir", "/d"), "img": NamedContext("image", "real:1")}
    text = "FROM img\nCOPY --from=dir a /b\nCOPY --from=img a /b"
    found = graph(text, contexts=contexts)
    assert found.target_stage.base == "real:1"
    assert found.steps[1].op.origin == Origin("context", name="dir")
    assert list(references(parse(text), GraphOptions(contexts=contexts))) == ["real:1"]


def test_from_a_context_of_files():
    contexts = {"dir": NamedContext("dir", "/d")}
    found = graph("FROM dir AS one\nENV a=b\nFROM one\nENV c=d", contexts=contexts)
    assert references(parse("FROM dir"), GraphOptions(contexts=contexts)) == {}
    assert found.steps[1].op == CopyOp((".",), "/", Origin("context", name="dir"))
    assert [line.created_by for line in found.target_stage.history] == [
        "ENV a=b",
        "ENV c=d",
        "local source for dir",
    ]
    run = graph("FROM dir\nENV a=b\nRUN x", contexts=contexts)
    assert [line.step for line in run.target_stage.history] == [None, 1, 2]


def test_a_named_context_takes_the_place_of_a_stage():
    contexts = {"one": NamedContext("image", "real:1"), "docker": NamedContext("image", "dind:1")}
    text = "FROM a AS one\nRUN 1\nFROM one AS two\nRUN 2\nCOPY --from=one /x /y"
    found = graph(text, contexts=contexts)
    assert [step.title for step in found.steps] == [
        "FROM one AS two",
        "RUN 2",
        text.rsplit("\n", maxsplit=1)[-1],
    ]
    assert found.steps[2].op.origin == Origin("step", step=0)
    assert len(graph(text, target="one", contexts=contexts).steps) == 1
    assert graph("FROM docker.io/library/docker:latest", contexts=contexts).target_stage.base == "dind:1"
    assert graph("FROM docker:27", contexts=contexts).target_stage.base == "docker:27"
    empty = {"a": NamedContext("image", "docker-image://scratch")}
    assert references(parse("FROM a"), GraphOptions(contexts=empty)) == {}


# the folded config


def test_env_of_one_line_sees_the_variables_from_before():
    assert env("FROM a\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc") == [
        "abc=bye",
        "def=hello",
        "ghi=bye",
    ]


def test_env_replaces_in_place():
    found = env("FROM a\nENV x=3 z=4", base(Env=["x=1", "y=2"]))
    assert found == ["x=3", "y=2", "z=4"]


def test_path_is_set_where_the_base_has_none():
    assert config("FROM a")["Env"] == [PATH]
    assert config("FROM a", base(Env=["PATH=/x"]))["Env"] == ["PATH=/x"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("WORKDIR /a\nWORKDIR b\nWORKDIR ../c", "/a/c"),
        ("WORKDIR a", "/a"),
        ("ENV d=/x\nWORKDIR $d/y/", "/x/y/"),
        ("WORKDIR //a//b/.", "//a//b/."),
        ("WORKDIR /a\nWORKDIR ../b", "/b"),
        ("WORKDIR /a/../../b/", "/a/../../b/"),
        ("WORKDIR /a//\nWORKDIR b", "/a/b"),
        ("WORKDIR /a\nWORKDIR $none", "/a"),
        ('WORKDIR "/a b"', "/a b"),
    ],
)
def test_workdir(lines, expected):
    found = graph("FROM a\n" + lines)
    assert found.target_stage.config["WorkingDir"] == expected
    assert found.steps[-1].op == WorkdirOp("/" + posixpath.normpath(expected).lstrip("/"))
    assert found.target_stage.history[-1] == History(f"WORKDIR {expected}", found.steps[-1].id)


def test_the_root_directory_needs_no_step():
    found = graph("FROM a\nWORKDIR /\nUSER u\nWORKDIR x\nWORKDIR ..\nRUN x")
    assert [step.op.kind for step in found.steps] == ["source", "workdir", "run"]
    assert found.steps[1].op == WorkdirOp("/x", "u")
    assert found.target_stage.config["WorkingDir"] == "/" == found.steps[-1].op.cwd
    assert [line.step for line in found.target_stage.history] == [None, None, 1, None, 2]


def test_scratch_has_a_working_directory():
    assert config("FROM scratch") == {"Env": [PATH], "WorkingDir": "/"}
    assert "WorkingDir" not in config("FROM a")


def test_workdir_counts_from_the_bases():
    assert config("FROM a\nWORKDIR b", base(WorkingDir="/w"))["WorkingDir"] == "/w/b"


@pytest.mark.parametrize(
    ("lines", "cmd", "entry"),
    [
        ("", ["base"], ["entry"]),
        ('ENTRYPOINT ["e"]', None, ["e"]),
        ('CMD ["c"]\nENTRYPOINT ["e"]', ["c"], ["e"]),
        ('ENTRYPOINT ["e"]\nCMD ["c"]', ["c"], ["e"]),
        ("CMD c d", ["/bin/sh", "-c", "c d"], ["entry"]),
        ("ENTRYPOINT []", None, []),
        ("CMD []", [], ["entry"]),
        ("CMD echo $x", ["/bin/sh", "-c", "echo $x"], ["entry"]),
    ],
)
def test_cmd_and_entrypoint(lines, cmd, entry):
    found = config("FROM a\n" + lines, base(Cmd=["base"], Entrypoint=["entry"]))
    assert found.get("Cmd") == cmd
    assert found.get("Entrypoint") == entry


def test_a_stage_does_not_inherit_that_cmd_was_set():
    found = config('FROM a AS one\nCMD ["c"]\nFROM one\nENTRYPOINT ["e"]')
    assert "Cmd" not in found


def test_shell():
    text = 'FROM a\nSHELL ["/bin/bash", "-ec"]\nRUN x $y\nCMD c\nHEALTHCHECK CMD h\nFROM 0\nRUN z\nRUN ["e"]'
    found = graph(text.replace("FROM 0", "FROM b"))
    assert runs(found)[0].command == ("/bin/sh", "-c", "z")
    one = graph(text.split("\nFROM 0", maxsplit=1)[0])
    assert runs(one)[0].command == ("/bin/bash", "-ec", "x $y")
    assert one.target_stage.config["Cmd"] == ["/bin/bash", "-ec", "c"]
    assert one.target_stage.config["Healthcheck"] == {"Test": ["CMD-SHELL", "h"]}
    assert runs(found)[1].command == ("e",)


def test_config_is_inherited_through_stages():
    text = "FROM a AS one\nENV e=1\nUSER u\nWORKDIR /w\nLABEL l=1\nEXPOSE 1\nVOLUME /v\nFROM one\nRUN x"
    found = graph(text, base(Labels={"b": "0"}, StopSignal="SIGINT"))
    op = runs(found)[0]
    assert (op.user, op.cwd, op.volumes) == ("u", "/w", ("/v",)) and "e=1" in op.env
    assert found.target_stage.config["Labels"] == {"b": "0", "l": "1"}
    assert found.target_stage.config["StopSignal"] == "SIGINT"
    assert found.stages[0].config == found.target_stage.config


def test_labels_of_the_command_line_are_for_the_target():
    found = graph("FROM a AS one\nLABEL x=1\nFROM one\nLABEL y=2", labels=(("y", "3"), ("z", "4")))
    assert found.stages[0].config["Labels"] == {"x": "1"}
    assert found.target_stage.config["Labels"] == {"x": "1", "y": "3", "z": "4"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("80", {"80/tcp"}),
        ("80/udp 81/TCP", {"80/udp", "81/tcp"}),
        ("8000-8002", {"8000/tcp", "8001/tcp", "8002/tcp"}),
        ("1-2/sctp", {"1/sctp", "2/sctp"}),
        ("$p", {"80/tcp", "81/udp"}),
    ],
)
def test_expose(words, expected):
    assert set(config(f'FROM a\nENV p="80 81/udp"\nEXPOSE {words}')["ExposedPorts"]) == expected


def test_volume():
    assert set(
        config('FROM a\nENV v=/x\nVOLUME $v\nVOLUME ["/a b", " /c "]\nVOLUME ["$v/y"]')["Volumes"]
    ) == {
        "/x",
        "/a b",
        "/c",
        "/x/y",
    }
    assert "empty path" in str(failure("FROM a\nVOLUME /a $none"))


def test_healthcheck():
    text = "FROM a\nHEALTHCHECK --interval=1s --timeout=2s --start-period=3s --start-interval=4s --retries=5 CMD "
    assert config(text + '["a"]')["Healthcheck"] == {
        "Test": ["CMD", "a"],
        "Interval": 10**9,
        "Timeout": 2 * 10**9,
        "StartPeriod": 3 * 10**9,
        "StartInterval": 4 * 10**9,
        "Retries": 5,
    }
    assert config("FROM a\nHEALTHCHECK NONE")["Healthcheck"] == {"Test": ["NONE"]}


def test_maintainer_is_the_author():
    assert graph("FROM a\nMAINTAINER A $x").target_stage.author == "A $x"
    assert graph("FROM a", {"a": {"author": "B"}}).target_stage.author == "B"


def test_onbuild_is_recorded_and_not_done():
    found = graph("FROM a\nONBUILD RUN x\nONBUILD ENV a=1")
    assert found.target_stage.config["OnBuild"] == ["RUN x", "ENV a=1"]
    assert len(found.steps) == 1


def test_triggers_of_the_base_are_done_and_dropped():
    found = graph("FROM a\nRUN last", base(OnBuild=["RUN first", "ENV x=1", "copy a /b"]))
    assert [step.op.kind for step in found.steps] == ["source", "run", "copy", "run"]
    assert "OnBuild" not in found.target_stage.config
    assert "x=1" in found.target_stage.config["Env"]


def test_triggers_of_a_stage_are_done_once():
    found = graph("FROM a AS one\nONBUILD RUN x\nFROM one AS two\nFROM two")
    assert [step.title for step in found.steps] == ["FROM a AS one", "RUN x"]


def test_a_bad_trigger_has_the_place_of_from():
    for trigger in ("EXPOSE x", "COPY --from=Other /a /b", "COPY --from=0 /a /b", "NOPE x", "FROM b"):
        error = failure("\nFROM a\n", base(OnBuild=[trigger]))
        assert error.where.start == 2


# COPY


@pytest.mark.parametrize(
    ("line", "dest"),
    [
        ("COPY a b", "/w/b"),
        ("COPY a b/", "/w/b/"),
        ("COPY a .", "/w/"),
        ("COPY a ./", "/w/"),
        ("COPY a /", "/"),
        ("COPY a ..", "/"),
        ("COPY a /x/y/..", "/x"),
        ("COPY a /x/.", "/x/"),
        ("COPY a /x//y", "/x/y"),
        ("COPY a b /x/", "/x/"),
        ("COPY a b .", "/w/"),
        ("COPY a b c", "/w/c"),
        ("COPY a $d", "/v"),
    ],
)
def test_destinations(line, dest):
    assert graph(f"FROM a\nENV d=/v\nWORKDIR /w\n{line}").steps[-1].op.dest == dest


def test_an_empty_path_is_the_directory_that_it_counts_from():
    found = graph("FROM a\nWORKDIR /w\nCOPY $no $no")
    assert (found.steps[-1].op.sources, found.steps[-1].op.dest) == ((".",), "/w/")


@pytest.mark.parametrize(
    ("source", "means"),
    [
        ("../f", "f"),
        ("/../f", "f"),
        ("d/../../f", "f"),
        ("a/..", "."),
        ("a..b", "a..b"),
        ("/a/", "/a/"),
        ("..", "."),
    ],
)
def test_a_source_does_not_climb_out(source, means):
    found = graph(f"FROM a\nCOPY {source} /x")
    assert found.steps[-1].op.sources == (means,)
    assert found.target_stage.history[-1].created_by == f"COPY {source} /x # buildkit"


def test_flags_are_expanded():
    op = graph("FROM a\nARG u=1 m=600\nCOPY --chown=$u:$u --chmod=$m a b").steps[-1].op
    assert (op.chown, op.chmod, op.unpack) == ("1:1", "600", False)
    assert graph("FROM a\nADD a b").steps[-1].op.unpack


# history, purity, drawings


def test_history():
    text = """FROM a
ARG v=1
RUN x
ENV e=$v f="a b"
WORKDIR /w
COPY --chown=$v --chmod=644 --link a b
ADD a b
CMD c "d"
ENTRYPOINT ["/e", "f g"]
SHELL ["/bin/bash", "-c"]
LABEL k=v l="a b"
EXPOSE 81-82/UDP 80
VOLUME /a $v
VOLUME ["/b c"]
USER $v
STOPSIGNAL SIG$s
MAINTAINER me $v
HEALTHCHECK --interval=90s --timeout=1500ms --retries=3 CMD curl x || exit
HEALTHCHECK NONE
ONBUILD RUN y
ARG none
RUN ["y", "z"]"""
    found = [item.created_by for item in graph(text.replace("$s", "TERM")).target_stage.history]
    assert found == [
        "ARG v=1",
        "RUN |1 v=1 /bin/sh -c x # buildkit",
        "ENV e=1 f=a b",
        "WORKDIR /w",
        "COPY --chown=1 --chmod=644 a b # buildkit",
        "ADD a b # buildkit",
        'CMD ["/bin/sh" "-c" "c \\"d\\""]',
        'ENTRYPOINT ["/e" "f g"]',
        "SHELL [/bin/bash -c]",
        "LABEL k=v l=a b",
        "EXPOSE [80/tcp 81/udp 82/udp]",
        "VOLUME [/a 1]",
        "VOLUME [/b c]",
        "USER 1",
        "STOPSIGNAL SIGTERM",
        "MAINTAINER me $v",
        "HEALTHCHECK {Test:[CMD-SHELL curl x || exit] Interval:1m30s Timeout:1.5s StartPeriod:0s StartInterval:0s"
        " Retries:3}",
        "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        "ARG none",
        "RUN |2 v=1 none= y z # buildkit",
    ]


EVERYTHING = """ARG v=1
FROM a AS one
RUN echo "quoted" \\
    two
FROM b
ARG v
ENV e=$v
COPY --from=one /x /y
WORKDIR /w
LABEL l="a b"
EXPOSE 80
"""
BASES = {"a": {"config": {"Env": ["x=1"], "OnBuild": ["ENV y=2"]}}, "b": {"config": {"Labels": {"k": "v"}}}}


def test_equal_inputs_give_equal_graphs_and_stay_as_they_are():
    bases = copy.deepcopy(BASES)
    first, second = graph(EVERYTHING, bases), graph(EVERYTHING, bases)
    assert first == second
    assert bases == BASES
    first.target_stage.config["Labels"]["k"] = "changed"
    assert bases == BASES and second.target_stage.config["Labels"]["k"] == "v"


def test_inputs_come_before_their_steps():
    found = graph(EVERYTHING, BASES)
    for step in found.steps:
        assert all(number < step.id for number in step.inputs)
        assert found.step(step.id) is step
        assert step.parent is None or step.inputs[0] == step.parent


def test_references_have_the_place_of_the_first_use():
    found = references(parse(EVERYTHING, "D"), GraphOptions())
    assert {name: wanted.where.start for name, wanted in found.items()} == {"a": 2, "b": 5}


def test_an_image_of_another_platform_is_another_image():
    text = "FROM --platform=$BUILDPLATFORM a AS one\nFROM a\nCOPY --from=one /x /y\nCOPY --from=a /x /y"
    options = {"platform": "linux/arm64", "build_platform": "linux/amd64"}
    found = references(parse(text), GraphOptions(**options))
    assert {key: wanted[:2] for key, wanted in found.items()} == {
        "a on linux/amd64": ("a", "linux/amd64"),
        "a": ("a", "linux/arm64"),
    }
    bases = {"a": {"config": {"Env": ["x=arm"]}}, "a on linux/amd64": {"config": {"Env": ["x=amd"]}}}
    made = graph(text, bases, **options)
    assert [stage.config["Env"][0] for stage in made.stages] == ["x=amd", "x=arm"]
    sources = [step.op for step in made.steps if isinstance(step.op, SourceOp)]
    assert [made.image_key(op) for op in sources] == ["a on linux/amd64", "a"]
    assert made.stages[0].base == "a on linux/amd64"


@pytest.mark.parametrize(
    ("given", "base_platform", "expected"),
    [
        (False, {"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        (True, {"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/amd64"),
        (False, {}, "linux/amd64"),
    ],
)
def test_the_image_has_its_bases_platform_unless_one_was_asked_for(given, base_platform, expected):
    assert graph("FROM a\nRUN x", {"a": base_platform}, platform_given=given).image_platform == expected
    assert graph("FROM scratch\nRUN x", platform_given=given).image_platform == "linux/amd64"


def test_json():
    value = json.loads(json.dumps(render.to_json(graph(EVERYTHING, BASES))))
    assert [step["op"]["kind"] for step in value["steps"]] == ["source", "run", "source", "copy", "workdir"]
    assert value["steps"][1]["lines"] == [3, 4]
    assert value["target"] == 1 and value["stages"][0]["name"] == "one"


def test_table():
    rows = render.to_text(graph(EVERYTHING, BASES), {1: "cached"}).splitlines()
    assert rows[0].split() == ["STEP", "STAGE", "NEEDS", "CACHE", "INSTRUCTION"]
    assert rows[2].split()[:4] == ["1", "one", "0", "cached"]
    assert rows[4].split()[:4] == ["3", "stage-1", "2,1", "-"]
    assert len(rows) == 6


def test_dot_and_mermaid():
    found = graph(EVERYTHING, BASES)
    dot = render.to_dot(found)
    assert dot.startswith("digraph build {") and dot.count("{") == dot.count("}")
    assert "s2 -> s3;" in dot and "s1 -> s3 [style=dashed];" in dot and '\\"quoted\\"' in dot
    mermaid = render.to_mermaid(found)
    assert "s2 --> s3" in mermaid and "s1 -.-> s3" in mermaid and "#quot;quoted#quot;" in mermaid


MOUNTING = """\
FROM a AS one
RUN --mount=type=bind,target=/s,source=s true
FROM a
COPY --from=b:1 /x /
RUN --mount=type=bind,target=/s,source=s true
COPY --from=one /y /
"""


def test_what_a_copy_or_a_mount_reads_is_no_step_of_a_stage():
    found = graph(MOUNTING)
    assert [(step.title, step.stage) for step in found.steps if step.internal] == [
        ("FROM scratch", 0),
        ("build context /s for RUN --mount", 0),
        ("FROM b:1", 1),
    ]
    told = render.to_json(found)["steps"]
    assert [step["id"] for step in told if step.get("internal")] == [
        step.id for step in found.steps if step.internal
    ]
    assert [row.split()[1] for row in render.to_text(found).splitlines()[1:]].count("internal") == 3
    clusters, _, rest = render.to_dot(found).rpartition("  }\n")
    assert "build context" not in clusters and "build context" in rest
    out = io.StringIO()
    plain = Plain(out)
    plain(Event("graph", data={"graph": found}))
    for step in found.steps:
        plain(Event("cached", step.id, step.title))
    titles = [line.partition(" ")[2] for line in out.getvalue().splitlines() if "[" in line]
    assert titles == [
        "[one 1/2] FROM a AS one",
        "[internal] FROM scratch",
        "[internal] build context /s for RUN --mount",
        "[one 2/2] RUN --mount=type=bind,target=/s,source=s true",
        "[stage-1 1/4] FROM a",
        "[internal] FROM b:1",
        "[stage-1 2/4] COPY --from=b:1 /x /",
        "[stage-1 3/4] RUN --mount=type=bind,target=/s,source=s true",
        "[stage-1 4/4] COPY --from=one /y /",
    ]


def test_a_named_context_is_there_instead_of_a_stage_of_its_name():
    contexts = {"one": NamedContext("dir", "/d"), "two": NamedContext("image", "real:1")}
    text = "FROM a AS one\nRUN never\nFROM b AS two\nRUN never\n"
    text += "FROM two\nCOPY --from=one /x /y\nRUN --mount=from=one,target=/m true"
    found = graph(text, contexts=contexts)
    assert [stage.index for stage in found.stages] == [2] and found.target_stage.base == "real:1"
    assert [step.op.origin for step in found.steps if step.op.kind == "copy"] == [
        Origin("context", name="one")
    ] * 2


def test_what_is_made_for_a_workdir_belongs_to_the_user():
    found = graph("FROM a\nWORKDIR /x\nUSER bob:wheel\nWORKDIR y")
    assert [(step.op.path, step.op.user) for step in found.steps[1:]] == [("/x", ""), ("/x/y", "bob:wheel")]
    assert ["user" in step["op"] for step in render.to_json(found)["steps"][1:]] == [False, True]


@pytest.mark.parametrize("name", ["1BAD", "A-B", "ä"])
def test_a_variable_of_a_secret_has_a_name(name):
    with pytest.raises(BuildError, match=f"env='{name}' of a secret is not the name of a variable") as caught:
        graph(f"FROM a\nRUN true\nRUN --mount=type=secret,id=s,env={name} true")
    assert caught.value.where.start == 3


def test_an_image_for_windows_has_its_shell_and_no_path():
    text = "FROM scratch AS a\nCMD dir\nFROM a\nENTRYPOINT dir C:\\\\\n"
    stage = graph(text, platform="windows/amd64").stages[-1]
    assert stage.config["Entrypoint"] == ["cmd", "/S", "/C", "dir C:\\\\"]
    assert stage.config.get("Env", []) == []
    own = graph('FROM --platform=windows/amd64 scratch\nSHELL ["x"]\nCMD y\n').stages[-1]
    assert own.config["Cmd"] == ["x", "y"]


@pytest.mark.parametrize(
    "line", ["FROM {}", "FROM a\nCOPY --from={} /x /y", "FROM a\nRUN --mount=from={},target=/m true"]
)
def test_a_dockerfile_names_no_directory_of_the_machine(line):
    with pytest.raises(BuildError, match="can't name a directory of the machine") as caught:
        graph(line.format("oci-layout:///etc") + "\n")
    assert "--build-context" in caught.value.hint
