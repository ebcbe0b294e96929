"""The mends: what they write, that they mean the same, and that they touch nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.dockerfile import parse
from buildfront.dockerfile.instructions import From, Instruction, Pairs, Word, Words
from buildfront.dockerfile.lint import RULES, Edit, Fix, LintOptions, lint
from buildfront.dockerfile.lint.findings import apply
from buildfront.errors import BuildError, SourceRange
from buildfront.graph import GraphOptions, build_graph

EVERYTHING = LintOptions(enable=frozenset({"all", "buildfront/all"}))


def mended(text: str, *, unsafe: bool = False, options: LintOptions = EVERYTHING) -> str:
    for _ in range(10):
        fixes = tuple(
            item.fix
            for item in lint(text, options=options).findings
            if item.fix and (unsafe or item.fix.safe)
        )
        after = apply(text, fixes)
        if after == text:
            return text
        text = after
    raise AssertionError("the mends don't end")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("FROM scratch as Base\n", "FROM scratch AS base\n"),
        ("from scratch AS Base\n", "from scratch as base\n"),
        ("FROM \\\n  scratch \\\n  as \\\n  Base\n", "FROM \\\n  scratch \\\n  AS \\\n  base\n"),
        ("FROM scratch\r\nrun a\r\nRUN b\r\n", "FROM scratch\r\nRUN a\r\nRUN b\r\n"),
        ("\ufeffFROM scratch\nRUN a\ncmd []\n  env a=b", "\ufeffFROM scratch\nRUN a\nCMD []\n  ENV a=b"),
        (
            "FROM scratch\nRUN a \\\n\n  # c\n  b \\\n \t\n  c\n",
            "FROM scratch\nRUN a \\\n  # c\n  b \\\n  c\n",
        ),
        ("FROM scratch\r\nRUN a \\\r\n\r\n  b\r\n", "FROM scratch\r\nRUN a \\\r\n  b\r\n"),
        ("FROM scratch\nRUN a \\\n\n\n", "FROM scratch\nRUN a \\\n"),
        ("FROM scratch\nRUN a \\\n\u3000\n\xa0\n b\n", "FROM scratch\nRUN a \\\n b\n"),
        ("# escape=`\nFROM scratch\nRUN a `\n\n  b\n", "# escape=`\nFROM scratch\nRUN a `\n  b\n"),
        ("FROM scratch\nENV a b\nLABEL c d  e\n", 'FROM scratch\nENV a=b\nLABEL c="d  e"\n'),
        ("FROM scratch\nENV a $x/b c\n", 'FROM scratch\nENV a="$x/b c"\n'),
        ("FROM scratch\nENV a \"b\" 'c'\n", "FROM scratch\nENV a \"b\" 'c'\n"),
        ("FROM scratch\nENV a b\\ c d\n", "FROM scratch\nENV a b\\ c d\n"),
        ("FROM scratch\nENV a b \\\n  c\n", "FROM scratch\nENV a b \\\n  c\n"),
        ('FROM scratch\nENV a "b"\n', 'FROM scratch\nENV a="b"\n'),
        ("FROM scratch\nWORKDIR a/../b\n", "FROM scratch\nWORKDIR /b\n"),
        ("FROM unknown\nWORKDIR a\n", "FROM unknown\nWORKDIR a\n"),
        ("FROM scratch\nENV d=x\nWORKDIR $d\n", "FROM scratch\nENV d=x\nWORKDIR $d\n"),
        ("FROM scratch\nEXPOSE 80/TCP 53/Udp 1\n", "FROM scratch\nEXPOSE 80/tcp 53/udp 1\n"),
        ("FROM scratch\nEXPOSE 1.2.3.4:80:80/TCP\n", "FROM scratch\nEXPOSE 80/tcp\n"),
        ("FROM scratch\nENV p=80/TCP\nEXPOSE $p\n", "FROM scratch\nENV p=80/TCP\nEXPOSE $p\n"),
        ("FROM scratch\nEXPOSE 127.0.0.1:9:9 80/TCP 8\n", "FROM scratch\nEXPOSE 127.0.0.1:9:9 80/TCP 8\n"),
        ("FROM scratch\nEXPOSE 80/TCP 80/TCP\n", "FROM scratch\nEXPOSE 80/TCP 80/TCP\n"),
        ("FROM --platform=$TARGETPLATFORM a:1\n", "FROM a:1\n"),
        (
            "ARG TARGETPLATFORM=linux/arm64\nFROM --platform=$TARGETPLATFORM a:1\n",
            "ARG TARGETPLATFORM=linux/arm64\nFROM --platform=$TARGETPLATFORM a:1\n",
        ),
        ("# what it is\r\nARG a\r\nFROM b:1\r\n", "# what it is\r\n#\r\nARG a\r\nFROM b:1\r\n"),
        (
            "FROM a:1\n# check=skip=all\n# what it is\nARG a\n",
            "FROM a:1\n# check=skip=all\n# what it is\nARG a\n",
        ),
        ("FROM scratch\nMAINTAINER me\nCMD a\n", "FROM scratch\nMAINTAINER me\nCMD a\n"),
    ],
)
def test_what_is_mended(text: str, wanted: str) -> None:
    assert mended(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "FROM scratch\nMAINTAINER me and you\n",
            'FROM scratch\nLABEL org.opencontainers.image.authors="me and you"\n',
        ),
        ('FROM scratch\nMAINTAINER "me"\n', 'FROM scratch\nMAINTAINER "me"\n'),
        ("FROM scratch\nCMD a --b=c d\n", 'FROM scratch\nCMD ["a", "--b=c", "d"]\n'),
        ("FROM scratch\nCMD a $b\nENTRYPOINT a && b\n", "FROM scratch\nCMD a $b\nENTRYPOINT a && b\n"),
        (
            "FROM scratch\nARG FILES=x\nCOPY $FILE ${FILES} /\n",
            "FROM scratch\nARG FILES=x\nCOPY $FILES ${FILES} /\n",
        ),
        ("ARG TAG=1\nFROM a:${TAGS:-2}\n", "ARG TAG=1\nFROM a:${TAG:-2}\n"),
        (
            "FROM a:1\nRUN sudo apt install x \\\n  && apk add y\n",
            "FROM a:1\nRUN sudo apt-get install --no-install-recommends -y x \\\n  && apk add --no-cache y\n",
        ),
        ("FROM a:1\nRUN <<E\napk add y\nE\n", "FROM a:1\nRUN <<E\napk add --no-cache y\nE\n"),
        ("FROM a:1\nadd x /\n", "FROM a:1\nCOPY x /\n"),
    ],
)
def test_what_changes_the_image_is_not_safe(text: str, wanted: str) -> None:
    found = mended(text, unsafe=True)
    assert found.replace("apt-get update && ", "") == wanted
    assert mended(text) in (text, text.replace("add x", "ADD x"))


def test_fixes_that_overlap() -> None:
    one, two = Fix((Edit(0, 2, "x"),)), Fix((Edit(1, 3, "y"),))
    assert apply("abcd", (one, two)) == "xcd"
    assert apply("abcd", (Fix((Edit(2, 2, "x"),)), Fix((Edit(2, 2, "y"),)))) == "abxcd"
    assert apply("abcd", (Fix((Edit(3, 4, "z"), Edit(0, 1, "y"))), one)) == "ybcz"
    assert apply("abcd", ()) == "abcd"


LINES = st.sampled_from(
    [
        "FROM scratch as Base",
        "from scratch",
        "FROM --platform=$TARGETPLATFORM scratch AS x",
        "run a \\\n\n  b",
        "RUN echo é && \\\n\t\n # c\n  x",
        "ENV a b c",
        "ENV d $e",
        "env f=g",
        "LABEL a 'b c'",
        "WORKDIR app",
        "Workdir /x",
        "EXPOSE 80/TCP 8080:80",
        "MAINTAINER me",
        "CMD a b",
        'Cmd ["a"]',
        "# comment",
        "#",
        "",
        "ARG x=1",
        "arg SECRET_TOKEN",
        "COPY --from=x a \\\n\n  /",
        "RUN <<E\ncd /x && sudo apk add y | z\nE",
        "ADD a /",
        "ONBUILD run x",
        "HEALTHCHECK CMD a",
    ]
)
TEXTS = st.tuples(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
    lambda given: given[1].join(
        [
            ("\ufeff" if given[2] else "") + "FROM scratch",
            *(line.replace("\n", given[1]) for line in given[0]),
            "",
        ]
    )
)

LOST = SourceRange("", 0, 0)


def meaning(text: str) -> list[Instruction]:
    """Return the instructions without what mends may change: places, spelling, and forms that mean the same."""
    out: list[Instruction] = []
    for item in parse(text):
        item = replace(item, source=LOST, text="", keyword="", comments=())
        if isinstance(item, From):
            item = replace(item, written_name="", platform=item.platform.replace("$TARGETPLATFORM", ""))
        elif isinstance(item, Pairs):
            pairs = tuple((name, value.strip('"')) for name, value in item.pairs)
            item = replace(item, pairs=pairs, legacy=False)
        elif isinstance(item, Word) and item.kind == "WORKDIR":
            item = replace(item, value=item.value.lstrip("/"))
        elif isinstance(item, Words) and item.kind == "EXPOSE":
            item = replace(
                item, values=tuple(sorted(port.rpartition(":")[2].lower() for port in item.values))
            )
        out.append(item)
    return out


@given(TEXTS)
def test_a_mended_text_means_the_same_and_needs_no_mend(text: str) -> None:
    try:
        before = meaning(text)
    except BuildError:
        return
    after = mended(text)
    assert meaning(after) == before
    assert mended(after) == after
    assert ("\r\n" in text) == ("\r\n" in after) or "\r\n" not in text
    assert text.startswith("\ufeff") == after.startswith("\ufeff")
    wrong = [item.rule for item in lint(after).findings if item.fix is not None and item.fix.safe]
    assert wrong == []


BASE = {
    "config": {"Env": ["PATH=/bin", "x=1 2"], "WorkingDir": "/srv"},
    "os": "linux",
    "architecture": "amd64",
}
FORMS = st.sampled_from(
    [
        "ENV a b c",
        "ENV a $x",
        "LABEL a b 'c'",
        'env q "a b"',
        "LABEL x  y\tz ",
        "ENV a =b c",
        "ENV a b\\ c",
        "ENV a b#c d",
        "ENV é ü ö",
        "WORKDIR x",
        "WORKDIR ../$x",
        "EXPOSE 80/TCP",
        "EXPOSE 1.2.3.4:80:80/UDP 7",
        "EXPOSE 9:9 80/TCP 8",
        "run a \\\n\n b",
        "FROM base as X",
        "FROM --platform=$TARGETPLATFORM base AS X",
        "copy --from=x a /b",
        "CMD a",
    ]
)


@given(st.lists(FORMS, max_size=10))
def test_a_mended_text_has_the_same_graph(lines: list[str]) -> None:
    """The operations of the steps, the config and the history are equal, so the image is."""
    text = "\n".join(["FROM base as x", *lines, ""])
    bases = {"base": BASE}

    def graph(text: str) -> object:
        found = build_graph(parse(text), GraphOptions(), bases)
        stages = [(stage.config, stage.history, stage.author) for stage in found.stages]
        return [(step.op, step.inputs) for step in found.steps], stages

    try:
        before = graph(text)
    except BuildError:
        return
    assert graph(mended(text, options=LintOptions(bases=bases))) == before


@given(TEXTS)
def test_findings_and_edits_lie_in_the_text(text: str) -> None:
    count = text.count("\n") + 1
    for item in lint(text, options=EVERYTHING).findings:
        assert item.rule in RULES
        assert 1 <= item.where.start <= item.where.end <= count
        for edit in item.fix.edits if item.fix else ():
            assert 0 <= edit.start <= edit.end <= len(text)
            assert text[edit.start : edit.end] != edit.text


@given(st.text(alphabet=list("FROMfrom scratchRUNENV\\\n\r\t\"'$={}<#`&|;ab1:/")))
def test_any_text_is_answered(text: str) -> None:
    result = lint("FROM scratch\n" + text, options=EVERYTHING)
    assert all(
        isinstance(getattr(item, found.name), object) for item in result.findings for found in fields(item)
    )
    assert result.error is None or isinstance(result.error, BuildError)
