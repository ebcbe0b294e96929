"""Mistakes: all that are independent are told at once, each with its place, and bytes that are no text."""

from __future__ import annotations

import pytest

from buildfront.dockerfile import instructions as ast
from buildfront.dockerfile import parse
from buildfront.errors import BuildError


def mistakes(text: str) -> list[BuildError]:
    with pytest.raises(BuildError) as caught:
        parse(text, "D")
    error = caught.value.in_text(text)
    return [error, *error.others]


def places(text: str) -> list[tuple[int, int]]:
    out = []
    for error in mistakes(text):
        assert error.where is not None
        out.append((error.where.start, error.where.column))
    return out


def test_several_mistakes_are_told_at_once() -> None:
    found = mistakes("FORM a\nRUN ok\nCOPY a\nUSER\n")
    assert [str(error) for error in found] == [
        "D:1: unknown instruction FORM (did you mean FROM?)",
        "D:3: COPY needs at least one source and a destination",
        "D:4: USER needs an argument",
    ]


def test_the_first_is_the_one_that_buildkit_tells() -> None:
    """It checks the structure of all lines before the meaning of the first."""
    assert places("FORM a\nENV a\nRUN <<E\n") == [(2, 5), (3, 5), (1, 1)]


def test_an_instruction_before_the_first_stage_comes_before_the_mistakes_below() -> None:
    assert places("ARG a\nENV b=c\nRUN d\nFROM e\nUSER\n") == [(2, 1), (5, 1)]
    assert places("ARG\nENV b=c\nFROM e\n") == [(1, 1)]
    assert places("FORM a\nENV b=c\n") == [(1, 1)]
    assert len(parse("ENV a=b\n")) == 1  # that there is no stage is found when stages are looked at


def test_ten_are_enough() -> None:
    assert len(mistakes("RNU\n" * 50)) == 10


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("RNU a", "did you mean RUN?"),
        ("import os", "is it a Dockerfile? The first instruction is FROM or ARG"),
        ("FROM a\nRUN b &&\n  make c", "does it belong to the line above? That line must end with \\"),
        ("# escape=`\nFROM a\necho", "does it belong to the line above? That line must end with `"),
        ("FROM a\nRUN b \\ # why\n  && c", "nothing may follow the \\ that continues the line above"),
        ("FROM a\nENV b=<<E\nc\nE", "here-documents are for RUN, COPY and ADD, outside of quotation marks"),
        ("FROM a\n<<<<<<< HEAD\nRUN a\n=======", "the file has the marks of a merge conflict"),
    ],
)
def test_what_may_be_meant_by_an_unknown_instruction(text: str, hint: str) -> None:
    """Unknown lines one after the other have one reason, so the first is told."""
    assert [error.hint for error in mistakes(text)] == [hint]


def test_of_unknown_instructions_in_capitals_the_known_are_listed() -> None:
    assert mistakes("FROM a\nINCLUDE x\n")[0].hint.startswith("known are ADD, ARG")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("  FORM a", (1, 3)),
        ("FROM a\nRUN --fast true", (2, 5)),
        ("FROM a\nCOPY --from x y", (2, 6)),
        ("FROM a\nCOPY \\\n  --chwon=1 a b", (2, 0)),
        ('FROM a\nCMD ["a", 1]', (2, 5)),
        ("FROM a\nENV a=1 b", (2, 9)),
        ("FROM a AS 1b", (1, 11)),
        ("FROM a\nRUN cat <<E", (2, 9)),
        ("# escape=x\nFROM a", (1, 1)),
    ],
)
def test_columns(text: str, place: tuple[int, int]) -> None:
    assert places(text)[0] == place


def test_the_marked_part_may_stand_in_a_later_line() -> None:
    assert mistakes("FROM a\nCOPY \\\n  --chwon=1 a b")[0].marked() == (3, 3)


def test_bytes_that_are_not_utf_8() -> None:
    env, copy, cmd, run = parse('FROM a\nENV A=\udce9\nCOPY \udce9 b\nCMD \udce9\nRUN ["\udce9"]\n')[1:]
    assert isinstance(env, ast.Pairs)
    assert env.pairs == (("A", "\ufffd"),)
    assert isinstance(copy, ast.Copy)
    assert (copy.sources, copy.text) == (("\udce9",), "COPY \ufffd b")
    assert isinstance(cmd, ast.Entry)
    assert cmd.command.words == ("\ufffd",)
    assert isinstance(run, ast.Run)
    assert run.command.words == ("\ufffd",)


@pytest.mark.parametrize("line", ["RUN \udce9", "RUN <<A\n\udce9\nA", "RUN --mount=target=\udce9 a"])
def test_a_command_has_only_utf_8(line: str) -> None:
    assert [error.what for error in mistakes(f"FROM a\n{line}\n")] == ["RUN has bytes that are not UTF-8"]


@pytest.mark.parametrize("line", ["# \0", "LABEL a=\0", "COPY <<A /b\n\0\nA"])
def test_a_null_byte_where_it_harms_nothing(line: str) -> None:
    parse(f"FROM a\n{line}\n")


@pytest.mark.parametrize("line", ["RUN \0", "ENV A=\0", "COPY \0 b", "\0", "RUN <<A\n\0\nA"])
def test_a_null_byte_elsewhere(line: str) -> None:
    assert "null byte" in mistakes(f"FROM a\n{line}\n")[0].what
    assert places(f"FROM a\n{line}\n")[0][0] == 2
