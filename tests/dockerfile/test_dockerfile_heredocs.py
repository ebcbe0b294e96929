"""Here-documents: where they begin and end, what they hold, and a ``<<`` that is none."""

from __future__ import annotations

import pytest

from buildfront.dockerfile import instructions as ast
from buildfront.dockerfile import parse
from buildfront.dockerfile.heredocs import Delimiter, delimiter, delimiters, without_tabs
from buildfront.dockerfile.parse import trigger
from buildfront.errors import BuildError, SourceRange


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", ("EOF", True, False)),
        ("<<-EOF", ("EOF", True, True)),
        ("3<<EOF", ("EOF", True, False)),
        ("<< EOF", ("EOF", True, False)),
        ("<<- \tEOF", ("EOF", True, True)),
        ("<<'EOF'", ("EOF", False, False)),
        ('<<"EOF"', ("EOF", False, False)),
        ('<<E"O"F', ("EOF", False, False)),
        ("<<'it is'", ("it is", False, False)),
        ("<<END\u00c9", ("END\u00c9", True, False)),
        ("<<$x", ("$x", True, False)),
        ("<<a\\ b", ("a b", True, False)),
        ("<<n))", ("n))", True, False)),
        ("<<a/b", ("a/b", True, False)),
        ("<<", None),
        ("<<''", None),
        ("<<<a", None),
        ("a<<EOF", None),
        ("<<a<b", None),
        ("<<a b", None),
        ("<EOF", None),
    ],
)
def test_a_delimiter(word: str, expected: tuple[str, bool, bool] | None) -> None:
    assert delimiter(word) == (None if expected is None else Delimiter(*expected))


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("RUN <<A", ["A"]),
        ("run cat <<A >b && cat 3<<-'C'", ["A", "C"]),
        ("COPY <<a <<b /c", ["a", "b"]),
        ("ADD --chmod=1 <<a /c", ["a"]),
        ("ONBUILD RUN <<A", ["A"]),
        ("ONBUILD ONBUILD RUN <<A", []),
        ("CMD cat <<A", []),
        ("ENV a=<<A", []),
        ("RUN echo '<<A' \"<<B\"", []),
        ("RUN echo \\<<A", []),
        ("RUN cat<<A", []),
        ("RUN cat <<<A", []),
        ("RUN echo $((1<<2))", []),
        ('RUN ["cat", "<<A"]', []),
        ('RUN ["cat", 1] <<A', ["A"]),
        ("RUN it's <<A", []),
        ("RUN ${a.b} <<A", []),
        ("RUN ${a:-b}<<A", []),
        ("RUN a${b:-c} <<A", ["A"]),
        ("RUN <<A; cat", ["A;"]),
    ],
)
def test_the_delimiters_of_a_line(line: str, names: list[str]) -> None:
    assert [item.name for item in delimiters(line, "\\")] == names


def test_the_documents_of_a_run_are_in_order() -> None:
    text = "FROM a\nRUN cat <<A <<-'B'\n$x\nA\n\t\\y\n\tB\nCMD c\n"
    run, cmd = parse(text)[1:]
    assert isinstance(run, ast.Run)
    assert run.command.words == ("cat <<A <<-'B'",)
    assert run.command.documents == (
        ast.Heredoc("A", "$x\n", expand=True),
        ast.Heredoc("B", "\t\\y\n", expand=False, strip_tabs=True),
    )
    assert run.source == SourceRange("Dockerfile", 2, 6)
    assert cmd.source.start == 7


def test_the_documents_of_a_copy_stand_with_its_files() -> None:
    copy = parse("FROM a\nCOPY x <<A y <<-'B' /d/\n1\nA\n\t2\n\tB")[1]
    assert isinstance(copy, ast.Copy)
    assert (copy.sources, copy.dest) == (("x", "y"), "/d/")
    assert copy.documents == (
        ast.Heredoc("A", "1\n"),
        ast.Heredoc("B", "\t2\n", expand=False, strip_tabs=True),
    )


def test_of_two_documents_of_one_name_a_copy_has_the_last() -> None:
    copy = parse("FROM a\nCOPY <<A <<A /d/\n1\nA\n2\nA\n")[1]
    assert isinstance(copy, ast.Copy)
    assert [item.content for item in copy.documents] == ["2\n", "2\n"]


def test_a_delimiter_in_an_array_is_an_empty_file() -> None:
    copy = parse('FROM a\nCOPY ["<<A", "/d"]\n')[1]
    assert isinstance(copy, ast.Copy)
    assert copy.documents == (ast.Heredoc("A", ""),)


def test_line_ends_and_all_else_in_a_document_stay() -> None:
    run = parse("FROM a\r\nRUN <<A\r\n# x \\\r\n\r\n FROM b\r\nA\r\n")[1]
    assert isinstance(run, ast.Run)
    assert run.command.documents[0].content == "# x \\\r\n\r\n FROM b\r\n"


@pytest.mark.parametrize("end", ["A ", " A", "\tA", "a", "AA", "A\\"])
def test_only_the_word_by_itself_ends_a_document(end: str) -> None:
    with pytest.raises(BuildError, match="the here-document <<A does not end") as caught:
        parse(f"FROM a\nRUN <<A \\\n\n# c\n b\n1\n{end}\n", "D")
    assert caught.value.where == SourceRange("D", 2, 7)


def test_an_indented_end_is_pointed_at() -> None:
    with pytest.raises(BuildError) as caught:
        parse("FROM a\nRUN cat <<'A'\n1\n  A\nCMD b\n")
    assert caught.value.hint == "line 4 has blanks beside A; only <<- allows some, tabs before it"
    assert caught.value.about == "<<'A'"


def test_the_second_document_must_end_too() -> None:
    with pytest.raises(BuildError, match="the here-document <<B does not end") as caught:
        parse("FROM a\nRUN <<A <<B\nB\nA\nA\n", "D")
    assert caught.value.where == SourceRange("D", 2, 5)


def test_a_backtick_does_not_escape_in_the_line_of_a_document() -> None:
    text = "# escape=`\nFROM a\nRUN cat `\n <<A\nx`\nA\nRUN b\n"
    run = parse(text)[1]
    assert isinstance(run, ast.Run)
    assert run.command.documents == (ast.Heredoc("A", "x`\n"),)


def test_a_trigger_has_its_documents_in_its_text() -> None:
    item = parse("FROM a\nONBUILD COPY <<-'A' \\\n /b\n\tx\n\tA\n")[1]
    assert isinstance(item, ast.Onbuild)
    assert item.trigger == "COPY <<-'A'  /b\n\tx\nA"
    copy = trigger(item.trigger, SourceRange("D", 9, 9))
    assert isinstance(copy, ast.Copy)
    assert copy.documents == (ast.Heredoc("A", "\tx\n", expand=False, strip_tabs=True),)
    assert copy.source == SourceRange("D", 9, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not one instruction"),
        ("RUN a\nRUN b", "not one instruction"),
        ("RUN <<A\n", "the here-document <<A does not end"),
        ("NOPE x", "unknown instruction NOPE"),
        ("FROM x", "FROM is not allowed"),
        ("ENV a", "the form is NAME=VALUE"),
        ("RUN a\0b", "null byte"),
    ],
)
def test_a_bad_trigger(text: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        trigger(text, SourceRange("D", 1, 1))


def test_tabs_are_removed_from_the_start_of_lines() -> None:
    assert without_tabs("\t\ta\tb\n\tc\n \td\n\t\n") == "a\tb\nc\n \td\n\n"
