"""What dockerfile-parse says of a text, and why it is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.dockerfile import parse_document
from buildfront.dockerfile.second_opinion import disagreements
from buildfront.errors import BuildError


def found(text: str) -> list[tuple[int, str]]:
    return [(item.source.start, item.why) for item in disagreements(text, parse_document(text))]


DOCUMENT = "it takes the lines of a here-document for instructions"
BLANK = "it takes a blank line for the end of an instruction"
ESCAPED = "it takes an escaped escape character for a continuation"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# c\nFROM a\nRUN b \\\n# c\n d\nCMD\n", []),
        ("# syntax=x\n# escape=`\nFROM a `\n AS b\n", []),
        ("FROM a\nRUN b \\\n\n# c\n d\nCMD\n", [(2, BLANK)]),
        ("# escape=`\nFROM a\nRUN b `\n c\nCMD d\n", []),
        ("\ufeffFROM a\r\nRUN b \\\r\n c\r\n", []),
        ("FROM a\nRUN <<E\nENV a=1\nE\nCMD x\n", [(2, DOCUMENT)]),
        ("FROM a\nRUN a\\\\\nCMD c\n", [(3, ESCAPED)]),
        ("FROM a\nRUN b \\\n\n c \\\\\nCMD d\n", [(2, BLANK), (5, ESCAPED)]),
        (
            "# check=skip=all\n# escape=`\nFROM a `\n AS b\n",
            [(3, "it does not know the escape directive below the check directive")],
        ),
        (
            "FROM a\nRUN b \\",
            [(2, "it passes over an instruction whose last line ends with an escape character")],
        ),
    ],
)
def test_disagreements_have_reasons(text: str, expected: list[tuple[int, str]]) -> None:
    assert found(text) == expected


LINES = st.sampled_from(
    ["RUN a", "ENV a=1", "CMD", "# c", "", "USER \\\n  c", "\tADD e \\\n# f\n g", "# escape=`"]
)


@given(st.lists(LINES, max_size=10).map(lambda lines: "\n".join(["FROM z", *lines, ""])))
def test_both_agree_on_all_else(text: str) -> None:
    assert found(text) == []


@given(
    st.lists(
        st.sampled_from(["RUN a", "\\", "\\\\", "\n", " ", "#", "\xa0", "<<E", "E", "`", "\r"]), max_size=12
    )
)
def test_any_text_has_an_answer(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        document = parse_document(text)
    except BuildError:
        return
    for item in disagreements(text, document):
        assert item.why


def test_a_very_long_text_is_not_compared() -> None:
    assert found("FROM a\n" + "RUN <<E\nENV b=1\nE\n" * 4000) == []
