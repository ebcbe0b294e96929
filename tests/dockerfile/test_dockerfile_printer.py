"""Reading, printing and reading again gives the same instructions; and other properties of any text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildfront.dockerfile import instructions as ast
from buildfront.dockerfile import parse_document
from buildfront.dockerfile.printer import text_of
from buildfront.errors import BuildError, SourceRange

NOWHERE = SourceRange("Dockerfile", 0, 0)
TESTDATA = Path(__file__).parents[2] / "testdata"
TEXTS = sorted(
    path
    for pattern in ("fuzz/dockerfile/*", "broken/dockerfiles/*", "oracle/*/Dockerfile", "dockerfiles/*/Dockerfile")
    for path in TESTDATA.glob(pattern)
)  # fmt: skip


def bare(items: tuple[ast.Instruction, ...]) -> list[ast.Instruction]:
    """The instructions without what printing does not keep."""
    return [replace(item, source=NOWHERE, text="") for item in items]


def printed_and_read(text: str) -> None:
    try:
        document = parse_document(text)
    except BuildError as error:
        assert error.what and error.where is not None
        return
    printed = text_of(document.instructions, document.escape)
    again = parse_document(printed)
    assert bare(again.instructions) == bare(document.instructions)
    assert again.escape == document.escape


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("from a as B", "from a AS B\n"),
        ("RUN --mount=target=/t \\\n --network=none a  b", "RUN --network=none --mount=target=/t a  b\n"),
        ("RUN ['a' , 'b']", "RUN ['a' , 'b']\n"),
        ('CMD ["a" , "b"]', 'CMD ["a", "b"]\n'),
        ("# x\nRUN <<E\n a\nE", "#\n# x\nRUN <<E\n a\nE\n"),
        ("COPY a <<E b <<'F' /c/\n1\nE\n2\nF\n", 'COPY a b <<E <<"F" /c/\n1\nE\n2\nF\n'),
        ('COPY ["a b", "c"]', 'COPY ["a b", "c"]\n'),
        ("ADD --link=false --unpack=FALSE a b", "ADD --unpack=false a b\n"),
        ("ENV  a=1   b='2 3'\nENV a b", "ENV a=1 b='2 3'\nENV a b\n"),
        ("HEALTHCHECK --interval=1m CMD a", "HEALTHCHECK --interval=60000000000ns CMD a\n"),
        ("ONBUILD COPY <<E /a\nx\nE", "ONBUILD COPY <<E /a\nx\nE\n"),
        ("# escape=`\nWORKDIR C:\\x", "# escape=`\nWORKDIR C:\\x\n"),
        ("COPY -- --a --b", "COPY -- --a --b\n"),
    ],
)  # fmt: skip
def test_printed(text: str, printed: str) -> None:
    document = parse_document(text)
    assert text_of(document.instructions, document.escape) == printed
    printed_and_read(text)


BITS = st.lists(
    st.sampled_from(
        [
            *("a", "b=c", "=", " ", "  ", "\t", "'", '"', "\\", "`", "$", "${x}", "${x:-y z}", "#", "--", "-"),
            *("<<E", "<<-'F'", '<<"G H"', "<<", "[", "]", '"a"', ",", '["a", "b"]', "\\\n", "`\n", "\\\n\n"),
            *("\xa0", "\x85", "\x0b", "\r", "é", "\udce9", "\0", "AS", "as n", "NONE", "CMD", "/", "1s", "80/tcp"),
            *("RUN ", "ENV ", "COPY ", "\\\n# c\n"),
        ]
    ),
    max_size=8,
).map("".join)  # fmt: skip
FLAG = st.builds(
    lambda name, value: f"--{name}={value} ",
    st.sampled_from(
        "from chown chmod link parents exclude checksum unpack keep-git-dir mount network security device platform "
        "interval retries".split()
    ),
    st.sampled_from(
        ["", "a", "true", "false", "1s", "3", "none", "sandbox", "target=/a", '"a b"', "a\\ b", "'c", "x,required"]
    ),
)  # fmt: skip
KEYWORD = st.sampled_from(
    "FROM RUN run COPY ADD ENV LABEL ARG CMD ENTRYPOINT SHELL HEALTHCHECK ONBUILD EXPOSE VOLUME USER WORKDIR "
    "STOPSIGNAL MAINTAINER Add".split()
)
INSTRUCTION = st.builds(
    lambda keyword, flags, rest: f"{keyword} {''.join(flags)}{rest}\n",
    KEYWORD,
    st.lists(FLAG, max_size=2),
    BITS,
)
FORM = st.one_of(
    st.builds(lambda words: f"FROM {words}", st.sampled_from(["a", "a AS b-1", "--platform=x a as C", "${x} AS d"])),
    st.builds(lambda keyword, rest: f"{keyword}{rest}", st.sampled_from(["RUN ", "CMD ", "ONBUILD RUN "]), BITS),
    st.builds(
        lambda keyword, flags, paths, body: f"{keyword} {''.join(flags)}{' '.join(paths)}{body}",
        st.sampled_from(["COPY", "ADD", "ONBUILD COPY"]),
        st.lists(st.sampled_from(["--chown=a ", "--exclude='a b' ", "--link=FALSE ", "-- "]), max_size=2),
        st.lists(st.sampled_from(["a", "<<E", "<<-'F'", "<<\\\\G", "'b", "[c", "--e", "\xa0f", "g\\"]), max_size=4),
        st.sampled_from(["", "\nx\n\ty\nE\nz\n\tF\nG\n", "\n\tF\nE", "\nE\nE\nF\nF\nG\nG\nE\n"]),
    ),
    st.builds(
        lambda keyword, name, value: f"{keyword} {name}={value}", st.sampled_from(["ENV", "LABEL", "ARG"]), BITS, BITS
    ),
    st.builds(
        lambda keyword, rest: f"{keyword} {rest}",
        st.sampled_from(["ENV a", "LABEL b", "ARG", "USER", "WORKDIR", "EXPOSE", "VOLUME", "STOPSIGNAL"]),
        BITS,
    ),
    st.builds(
        lambda flags, rest: f"HEALTHCHECK {''.join(flags)}{rest}",
        st.lists(st.sampled_from(["--interval=1.5s ", "--retries=+3 ", "--timeout= "]), max_size=2),
        st.one_of(st.just("NONE"), BITS.map(lambda rest: f"CMD a{rest}")),
    ),
    st.builds(
        lambda flag, rest: f"RUN --{flag} {rest}",
        st.sampled_from(["network=none", "mount='a,b'", 'mount="type=x,a\\"b"', "device=x,required"]),
        BITS,
    ),
)  # fmt: skip
COMMENT = st.sampled_from(["# c\n", "#\n", "  # d\n", "# check=x\n", "# escape=`\n", "\n"])


def _parses(text: str) -> bool:
    try:
        parse_document(text)
    except BuildError:
        return False
    return True


DOCKERFILE = st.builds(
    lambda head, pieces: head + "".join(piece for piece in pieces if _parses(f"FROM a\n{piece}")),
    st.sampled_from(["", "", "# escape=`\n"]),
    st.lists(st.one_of(FORM.map(lambda text: f"{text}\n"), COMMENT, INSTRUCTION), max_size=6),
)


@settings(max_examples=500)
@example("COPY 'a <<E /b\n")
@example("COPY <<E <<E /b\n1\nE\n2\nE\n")
@example('COPY ["<<E", "a b", "/c"]\n')
@example("RUN a \\\xa0\n")
@example("ENV \\  = a\n")
@example("COPY <<E \xa0f a\n\tF\nE\n")
@example('COPY <<E a="b c"\nd\nE\n')
@example("COPY <<E [c a\n\tF\nE\n")
@example("COPY [1, <<E 2]\nE\n")
@example("ONBUILD RUN \r\\\n# c\n\n")
@example("COPY <<a\\'b /c\nx\na'b\n")
@given(DOCKERFILE)
def test_what_is_printed_is_read_as_the_same(text: str) -> None:
    printed_and_read(text)


@settings(max_examples=300)
@given(KEYWORD, BITS)
def test_one_instruction_too(keyword: str, rest: str) -> None:
    printed_and_read(f"{keyword} {rest}\nE\n")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_text_of_the_tests_too(path: Path) -> None:
    """The first are what fuzzing found: each was once printed or read in a wrong way, or looks as if it could be."""
    printed_and_read(path.read_bytes().decode("utf-8", "surrogateescape"))


def test_long_lines_are_continued() -> None:
    printed_and_read("RUN " + "\\\n".join(["é #\\a" * 10_000] * 3))
    printed_and_read("ENV " + "\\\n".join(["a='# ' " * 9_000] * 3))
