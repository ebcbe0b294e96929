"""Text to logical lines: continuations, comments, directives, and where each line stands."""

import pytest

from buildfront.dockerfile import lines
from buildfront.errors import BuildError, SourceRange


def read(text):
    return [(line.name, line.rest) for line in lines.split(text, "Dockerfile").lines]


def ranges(text):
    return [(line.source.start, line.source.end) for line in lines.split(text, "Dockerfile").lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nRUN b\n", [("FROM", "a"), ("RUN", "b")]),
        ("from a", [("FROM", "a")]),
        ("RUN a \\\n  b\n", [("RUN", "a   b")]),
        ("RUN a \\  \t\n  b\n", [("RUN", "a   b")]),
        ("RUN a \\\n# no\n  # nor this \\\n  b\n", [("RUN", "a   b")]),
        ("RUN a \\\n\n   \n  b\nCMD c", [("RUN", "a   b"), ("CMD", "c")]),
        ("RUN \\\n  a", [("RUN", "a")]),
        ("FR\\\nOM a", [("FROM", "a")]),
        ("RUN a \\\n", [("RUN", "a")]),
        ("RUN a \\", [("RUN", "a")]),
        ("RUN a \\\n# last", [("RUN", "a")]),
        ("# c \\\nFROM a", [("FROM", "a")]),
        ("   FROM a\n\n\n\tRUN b", [("FROM", "a"), ("RUN", "b")]),
        ("RUN echo a # b", [("RUN", "echo a # b")]),
        ("RUN a\\\nb\\\nc", [("RUN", "abc")]),
        ("FROM a\r\nRUN b \\\r\n c\r\n", [("FROM", "a"), ("RUN", "b  c")]),
        ("\ufeffFROM a\n", [("FROM", "a")]),
        ("", []),
        ("\n \n# c\n", []),
        ("FROM a\nRUN\nRUN b", [("FROM", "a"), ("RUN", ""), ("RUN", "b")]),
        ("FROM a\nRUN", [("FROM", "a"), ("RUN", "")]),
        ("FROM\tscratch", [("FROM", "scratch")]),
        ("RUN caf\udce9", [("RUN", "caf\udce9")]),
    ],
)
def test_lines(text, expected):
    assert read(text) == expected


def test_an_escaped_escape_character_continues_nothing():
    assert read("RUN a \\\\\nRUN b \\\\\n# c\nRUN d") == [("RUN", "a \\\\"), ("RUN", "b \\\\"), ("RUN", "d")]


def test_an_escape_character_alone_on_its_line_continues():
    assert read("RUN a \\\n\\\n b") == [("RUN", "a  b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\n\n# c\nRUN b", [(1, 1), (4, 4)]),
        ("FROM a\nRUN b \\\n c \\\n d\nCMD e", [(1, 1), (2, 4), (5, 5)]),
        ("RUN b \\\n\n# c\n d\nCMD e", [(1, 4), (5, 5)]),
        ("RUN a \\\n\n\n", [(1, 1)]),
        ("RUN a \\\\\nRUN b", [(1, 1), (2, 2)]),
        ("FROM a\r\nRUN b \\\r\n c\r\n", [(1, 1), (2, 3)]),
        ("# escape=`\nRUN a `\n b\nCMD c", [(2, 3), (4, 4)]),
    ],
)
def test_ranges(text, expected):
    assert ranges(text) == expected


def test_the_text_of_a_line_is_what_was_written():
    assert lines.split("FROM a\nRUN b \\\n\n  c\n", "f").lines[1].text == "RUN b \\\n\n  c"


@pytest.mark.parametrize("head", ["# escape=`", "#escape=`", "# ESCAPE = `", "# syntax=x\n# escape=`"])
def test_escape_directive(head):
    found = lines.split(head + "\nFROM a\nRUN b `\n c\\\nCMD d", "f")
    assert found.escape == "`"
    assert [(line.name, line.rest) for line in found.lines] == [
        ("FROM", "a"),
        ("RUN", "b  c\\"),
        ("CMD", "d"),
    ]


@pytest.mark.parametrize("head", ["\n# escape=`", "# a comment\n# escape=`", "# unknown=x\n# escape=`"])
def test_a_directive_after_anything_else_is_a_comment(head):
    assert lines.split(head + "\nFROM a", "f").escape == "\\"


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("# escape=x\nFROM a", "invalid escape character 'x'", 1),
        ("# escape=``\nFROM a", "invalid escape character", 1),
        ("# escape=`\n# escape=`\nFROM a", "the directive 'escape' stands twice", 2),
        ("# syntax=a\n# syntax=b\nFROM a", "the directive 'syntax' stands twice", 2),
    ],
)
def test_bad_directives(text, message, line):
    with pytest.raises(BuildError, match=message) as caught:
        lines.split(text, "D")
    assert caught.value.where == SourceRange("D", line, line)


def test_other_directives_are_kept():
    found = lines.split("# syntax=docker/dockerfile:1\n# check=skip=all\nFROM a", "f")
    assert found.directives == {"syntax": "docker/dockerfile:1", "check": "skip=all"}
