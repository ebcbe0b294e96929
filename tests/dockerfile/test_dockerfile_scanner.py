"""Text to logical lines: continuations, comments, directives, here-documents, and where each line stands."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildfront.dockerfile import parse_document
from buildfront.dockerfile.scanner import LONGEST_LINE, Kind, scan
from buildfront.errors import BuildError, SourceRange


def texts(text: str) -> list[str]:
    found = scan(text, "Dockerfile")
    assert found.error is None
    return [line.text for line in found.lines]


def ranges(text: str) -> list[tuple[int, int]]:
    return [(line.source.start, line.source.end) for line in scan(text, "Dockerfile").lines]


def error(text: str) -> BuildError:
    found = scan(text, "D").error
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nRUN b\n", ["FROM a", "RUN b"]),
        ("from a", ["from a"]),
        ("RUN a \\\n  b\n", ["RUN a   b"]),
        ("RUN a \\  \t\n  b\n", ["RUN a   b"]),
        ("RUN a \\\n# no\n  # nor this \\\n  b\n", ["RUN a   b"]),
        ("RUN a \\\n\n   \n  b\nCMD c", ["RUN a   b", "CMD c"]),
        ("RUN \\\n  a", ["RUN   a"]),
        ("FR\\\nOM a", ["FROM a"]),
        ("RUN a \\\n", ["RUN a "]),
        ("RUN a \\", ["RUN a "]),
        ("RUN a \\\n# last", ["RUN a "]),
        ("# c \\\nFROM a", ["FROM a"]),
        ("   FROM a\n\n\n\tRUN b", ["FROM a", "RUN b"]),
        ("RUN echo a # b", ["RUN echo a # b"]),
        ("RUN a\\\nb\\\nc", ["RUN abc"]),
        ("FROM a\r\nRUN b \\\r\n c\r\n", ["FROM a", "RUN b  c"]),
        ("\ufeffFROM a\n", ["FROM a"]),
        ("", []),
        ("\n \n# c\n", []),
        ("FROM a\nRUN\nRUN b", ["FROM a", "RUN", "RUN b"]),
        ("RUN caf\udce9", ["RUN caf\udce9"]),
        # a carriage return ends no line, and those at the end of one are dropped
        ("RUN a\rb\nRUN c\r\r\n", ["RUN a\rb", "RUN c"]),
        ("RUN a \\\r\r\n b", ["RUN a  b"]),
        # Unicode's blanks at the start of a line, but not in a continuation, and not the ASCII separators
        ("\xa0\u3000\u2028FROM a\n", ["FROM a"]),
        ("RUN a \\\n\xa0b", ["RUN a \xa0b"]),
        ("\x1cFROM a", ["\x1cFROM a"]),
        ("RUN a \\\n\u3000\n b", ["RUN a  b"]),
        ("RUN a \\\xa0\n b", ["RUN a \\\xa0", "b"]),
        # a lone escape character goes on
        ("RUN a \\\n\\\n b", ["RUN a  b"]),
        ("\\\nFROM a", ["FROM a"]),
        ("\\\n", [""]),
        # an escaped one does not
        ("RUN a \\\\\nRUN b \\\\\n# c\nRUN d", ["RUN a \\\\", "RUN b \\\\", "RUN d"]),
        ("\\\\\nRUN b", ["\\\\", "RUN b"]),
        ("RUN a \\\n\n b \\\\\nRUN c", ["RUN a  b \\\\", "RUN c"]),
        ("# check=skip=all\n# escape=`\nRUN a `\n b\\\nRUN c", ["RUN a  b\\", "RUN c"]),
    ],
)
def test_lines(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\n\n# c\nRUN b", [(1, 1), (4, 4)]),
        ("FROM a\nRUN b \\\n c \\\n d\nCMD e", [(1, 1), (2, 4), (5, 5)]),
        ("RUN b \\\n\n# c\n d\nCMD e", [(1, 4), (5, 5)]),
        ("RUN a \\\n\n\n", [(1, 3)]),
        ("RUN a \\\\\nRUN b", [(1, 1), (2, 2)]),
        ("FROM a\r\nRUN b \\\r\n c\r\n", [(1, 1), (2, 3)]),
        ("# escape=`\nRUN a `\n b\nCMD c", [(2, 3), (4, 4)]),
        ("RUN cat <<A <<B \\\n > c\n1\nA\n2\nB\nCMD e", [(1, 6), (7, 7)]),
    ],
)
def test_ranges(text: str, expected: list[tuple[int, int]]) -> None:
    assert ranges(text) == expected


def test_each_line_has_its_kind() -> None:
    text = "# syntax=x\n# c\n\nFROM a\nRUN <<E \\\n# c\n\n b\n# text\n\nE\nCMD c\n"
    assert [kind.value[:2] for kind in scan(text, "f").kinds] == (
        "di co bl in in co bl in do do do in".split()
    )


def test_instructions_with_a_blank_line_in_a_continuation_are_known() -> None:
    document = parse_document("FROM a\nRUN b \\\n\n c\nRUN d \\\n# c\n e\nCOPY <<E \\\n\n /f\nE\n")
    assert document.empty_continuations == (
        SourceRange("Dockerfile", 4, 4),
        SourceRange("Dockerfile", 10, 10),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# a\n#b \nFROM x", ("a", "b")),
        ("# a\n\nFROM x", ("a",)),
        ("# a\n#\n# b\nFROM x", ("b",)),
        ("# syntax=x\n# a\nFROM x", ("a",)),
        ("  # a\nFROM x", ("# a",)),
        ("FROM \\\n# in it\n x", ()),
    ],
)
def test_the_comments_above_an_instruction(text: str, expected: tuple[str, ...]) -> None:
    assert scan(text, "f").lines[0].comments == expected


# directives


@pytest.mark.parametrize(
    "head",
    [
        *("# escape=`", "#escape=`", "# ESCAPE = `", "# syntax=x\n# escape=`", "# check=skip=A\n#Syntax=b\n#escape=`"),
        *("  # escape=`", "\ufeff# escape=`", "#\t\xa0escape\t= `  ", "# escape=`\r"),
    ],
)  # fmt: skip
def test_escape_directive(head: str) -> None:
    found = scan(head + "\nFROM a\nRUN b `\n c\\\nCMD d", "f")
    assert found.escape == "`"
    assert [line.text for line in found.lines] == ["FROM a", "RUN b  c\\", "CMD d"]


@pytest.mark.parametrize(
    "head",
    [
        "\n# escape=`",
        "# a comment\n# escape=`",
        "# unknown=x\n# escape=`",
        "#!/bin/x\n# escape=`",
        "# escape=",
    ],
)
def test_a_directive_after_anything_else_is_a_comment(head: str) -> None:
    assert scan(head + "\nFROM a", "f").escape == "\\"


@pytest.mark.parametrize(
    ("text", "message", "lines"),
    [
        ("# escape=x\nFROM a", "invalid escape character 'x'", (1, 1)),
        ("# escape= \nFROM a", "invalid escape character ' '", (1, 1)),
        ("# syntax=a\n# escape=``\nFROM a", "invalid escape character", (1, 2)),
        ("# escape=`\n# escape=`\nFROM a", "the directive 'escape' stands twice", (1, 2)),
        ("# syntax=a\n# check=b\n# SYNTAX=b\nFROM a", "the directive 'syntax' stands twice", (2, 3)),
    ],
)
def test_bad_directives(text: str, message: str, lines: tuple[int, int]) -> None:
    found = error(text)
    assert message in found.what
    assert found.where == SourceRange("D", *lines)


def test_directives_keep_their_places() -> None:
    document = parse_document("# syntax=docker/dockerfile:1\n# Check=skip=all;error=true \nFROM a", "f")
    assert [(item.name, item.value, item.source.start) for item in document.directives] == [
        ("syntax", "docker/dockerfile:1", 1),
        ("check", "skip=all;error=true", 2),
    ]
    assert document.directive("check") == "skip=all;error=true"
    assert document.directive("escape") is None


# limits


@pytest.mark.parametrize("head", ["RUN ", "# ", "RUN a \\\n"])
def test_a_line_has_65535_bytes_at_most(head: str) -> None:
    room = LONGEST_LINE - len(head.rsplit("\n", maxsplit=1)[-1])
    fits = head + "é" * (room // 2) + "a" * (room % 2)
    assert scan(f"FROM a\n{fits}\n", "D").error is None
    found = error(f"FROM a\n\n{fits}a\nRUN b")
    assert f"line {3 + head.count(chr(10))} is longer than 65535 bytes" in found.what


def test_a_long_line_in_a_here_document_is_an_error_of_its_instruction() -> None:
    found = error("FROM a\nRUN <<E\n" + "a" * 70_000 + "\nE\n")
    assert found.where == SourceRange("D", 2, 3)


# every line, once


PIECES = st.sampled_from(
    [
        *("a", "R", " ", "\\", "\\\n", "\n", "#", "`", "\t", "\r\n", "\r", "\x0b", "\u2028", "\xa0"),
        *("RUN ", "COPY ", "ONBUILD ", "<<A", "<<-B ", "A\n", "\nB\n", "# escape=`\n", "# check=x\n", "'", "FROM b\n"),
    ]
)  # fmt: skip


@example("\\\n\n\\\\\na")
@example("# check=x\n# escape=`\nRUN a `\n b\n")
@given(st.lists(PIECES, max_size=14).map("".join))
def test_each_line_belongs_to_one_instruction_or_is_a_comment_a_directive_or_blank(text: str) -> None:
    found = scan(text, "f")
    physical = text.removeprefix("\ufeff").split("\n")
    if not physical[-1]:
        physical.pop()
    if found.error is None:
        assert len(found.kinds) == len(physical)
    owners: dict[int, int] = {}
    for at, line in enumerate(found.lines):
        for number in range(line.source.start, line.source.end + 1):
            assert number not in owners
            owners[number] = at
    unfinished = found.error.where if found.error is not None else None
    for number, (line, kind) in enumerate(zip(physical, found.kinds, strict=False), 1):
        body = line.strip("\r\n\t\v\f \x85\xa0\u2028\u2029")
        if kind in (Kind.INSTRUCTION, Kind.DOCUMENT):
            assert number in owners or (unfinished is not None and number >= unfinished.start)
        elif kind is Kind.BLANK:
            assert not body
        else:
            assert body.startswith("#")
    for line in found.lines:
        own = [
            physical[number - 1].rstrip("\r")
            for number in range(line.source.start, line.source.end + 1)
            if found.kinds[number - 1] is Kind.INSTRUCTION
        ]
        own[0] = own[0].lstrip()
        for part in own:
            kept = part.rstrip(" \t")
            assert kept.removesuffix(found.escape) in line.text
