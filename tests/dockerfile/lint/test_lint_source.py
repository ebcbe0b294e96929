"""Places in the source: the joined text is the parser's, and each of its characters is found again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildfront.dockerfile.lint.source_text import SourceText
from buildfront.dockerfile.parse import parse_document
from buildfront.dockerfile.scanner import scan
from buildfront.errors import BuildError

PIECES = st.sampled_from(
    [
        "RUN a",
        "ENV b=c",
        " x",
        "\\",
        "\\ \t",
        "`",
        "\n",
        "\r\n",
        "#",
        "# c",
        " ",
        "\t",
        "\xa0",
        "\x1c",
        "é",
        "<<E",
        "E",
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join), st.sampled_from(["", "\ufeff", "# escape=`\n"]))
def test_the_joined_text_is_what_the_parser_reads(text: str, head: str) -> None:
    text = head + "FROM scratch\n" + text
    try:
        document = parse_document(text, "D")
    except BuildError:
        return
    source = SourceText(text, "D")
    logical = scan(text, "D").lines
    gaps = []
    for item, line in zip(document.instructions, logical, strict=True):
        joined = source.joined(item)
        assert joined.text == line.text
        assert joined.last == line.last
        assert bool(joined.empty) == line.gap
        gaps += [joined.last] if joined.empty else []
        for at, char in enumerate(joined.text):
            assert text[joined.offset(at)] == char
    assert gaps == [place.start for place in document.empty_continuations]


def test_places_and_lines() -> None:
    source = SourceText("ab\r\ncd\n\nef", "D")
    assert [source.line(number) for number in range(1, 5)] == ["ab", "cd", "", "ef"]
    assert (source.place(5).start, source.place(5).column) == (2, 2)
    assert (source.place(4, 10).start, source.place(4, 10).end) == (2, 4)
    assert source.start(9) == len(source.text)


def test_an_edit_over_several_lines_is_none() -> None:
    document = parse_document("FROM scratch\nRUN ab \\\n  cd\n", "D")
    joined = SourceText("FROM scratch\nRUN ab \\\n  cd\n", "D").joined(document.instructions[1])
    assert joined.edit(4, 6, "x") == (17, 19, "x")
    assert joined.edit(4, len(joined.text), "x") is None
    assert joined.edit(4, 4, "x") == (17, 17, "x")
