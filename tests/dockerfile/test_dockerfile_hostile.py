"""Dockerfiles that nobody writes in good faith: an image or an error with its place, soon, and never a traceback."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildfront.dockerfile import parse
from buildfront.dockerfile.forms import KNOWN
from buildfront.errors import BuildError
from buildfront.graph import GraphOptions, build_graph, references

SIZE = 1 << 21
MANY = 40_000


def filled(text: str) -> str:
    return text * (SIZE // len(text))


def numbered(text: str, many: int = MANY) -> str:
    return "".join(text.replace("{n}", str(n)).replace("{m}", str(n + 1)) for n in range(many))


def continued(text: str) -> str:
    """The text with its long lines continued: none may have more than 65,535 bytes."""
    out = []
    for line in text.split("\n"):
        while len(line) > 60_000 and not line.startswith("#"):
            at = 60_000 - (line[59_999] == "\\")
            out.append(line[:at] + "\\")
            line = line[at:]
        out.append(line)
    return "\n".join(out)


def outcome(text: str, bases: dict | None = None, **options: object) -> str:
    """``ok``, or what the error says."""
    try:
        build_graph(parse(continued(text)), GraphOptions(**options), bases or {})
    except BuildError as error:
        return str(error)
    return "ok"


BELOW = {
    "comments": (filled("#\n"), "ok"),
    "blank lines": (filled(" \n"), "ok"),
    "a continuation without end": ("RUN a " + filled("\\\n"), "ok"),
    "a continuation with comments": ("RUN a \\\n" + filled("#\n") + "b", "ok"),
    "many lines of one instruction": ("RUN a " + filled("b \\\n") + "c", "ok"),
    "a long line": ("RUN " + filled("a"), "ok"),
    "a line of blanks": ("RUN a" + filled(" ") + "b", "ok"),
    "a line of backslashes": ("RUN a" + filled(" \\") + "b", "ok"),
    "too many instructions": (filled("ARG A=1\n"), "more than 50000 instructions"),
    "too many steps": (numbered("RUN a\n"), "more than 10000 steps"),
    "stages": (numbered("FROM scratch\n"), "ok"),
    "stages upon stages": (
        "FROM scratch AS a0\n" + numbered("FROM a{n} AS a{m}\nENV A{n}=1\n", MANY // 2),
        "does a variable grow with each line, or each stage",
    ),
    "ENV and ENV": (numbered("ENV A{n}=1\n"), "ok"),
    "ARG and ARG": (numbered("ARG A{n}=$A{m}\n"), "ok"),
    "ENV and RUN": (numbered("ENV A{n}=1\nRUN a\n", MANY // 2), "come to more than 32 MiB"),
    "ARG and RUN": (numbered("ARG A{n}=1\nRUN a\n", MANY // 2), "come to more than 32 MiB"),
    "one ENV": ("ENV " + numbered("A{n}=1 "), "ok"),
    "one ARG": ("ARG " + numbered("A{n}=1 "), "ok"),
    "LABEL and LABEL": (numbered("LABEL a{n}=1\n"), "ok"),
    "VOLUME and VOLUME": (numbered("VOLUME /a{n}\n"), "ok"),
    "ONBUILD and ONBUILD": ("ONBUILD RUN a\n" * MANY, "ok"),
    "EXPOSE and EXPOSE": ("EXPOSE 1-65535\n" * MANY, "come to more than 32 MiB"),
    "WORKDIR in WORKDIR": ("WORKDIR aaaaaaaaaaaaaaaaaaaaa\n" * MANY, "come to more than 32 MiB"),
    "COPY from many images": (numbered("COPY --from=i{n} a /\n", 4900), "ok"),
    "ENV doubled": ("ENV A=aaaaaaaaaa\n" + "ENV A=$A$A\n" * 60, "does a variable hold itself"),
    "ENV doubled by a default": ("ENV A=aa\n" + "ENV A=${B:-$A$A}\n" * 60, "does a variable hold itself"),
    "ENV doubled in quotes": ('ENV A=aa\n' + 'ENV A="${A:+$A${A}}"\n' * 60, "does a variable hold itself"),
    "ARG doubled": ("ARG A=aaaaaaaaaa\n" + "ARG A=$A$A\n" * 60, "does a variable hold itself"),
    "WORKDIR doubled": ("WORKDIR a\nENV A=aa\n" + "ENV A=$A$A\n" * 18 + "WORKDIR $A$A$A\n", "hold itself"),
    "LABEL of a large one": (f"ENV A={'a' * 9999}\nLABEL A={'$A' * 9999}\n", "come to more than 1048576"),
    "COPY of a large one": (f"ENV A={'a' * 9999}\nCOPY {'$A' * 9999} /\n", "come to more than 1048576"),
    "many large ones": (f"ENV A={'a' * 99999}\n" + numbered("ENV B{n}=$A\n"), "come to more than 32 MiB"),
    "defaults in defaults": ("ENV A=" + "${a:-" * 99999 + "}" * 99999, "more than 100 variables in each other"),
    "defaults without end": ("ENV A=" + filled("${a:-"), "more than 100 variables in each other"),
    "patterns of a large one": (
        f"ENV A={'a' * 65535}\n" + "ENV B=${A#" + "*a" * 20_000 + "b} C=${A//" + "?" * 60 + "/}\n",
        "ok",
    ),
    "a pattern of a very large one": (f"ENV A={'a' * 99999}\nENV B=${{A%*a}}", "more than 65536 characters"),
    "many patterns": (f"ENV A={'a' * 65535}\n" + "ENV B=${A##*a}\n" * 20_000, "ok"),
    "quotes": ("ENV A=" + filled('"a"'), "ok"),
    "a quote without end": ("ENV A='" + filled("a"), "a closing ' is missing"),
    "a double quote without end": ('ENV A="' + filled("\\a"), 'a closing " is missing'),
    "dollars": ("ENV A=" + filled("$"), "ok"),
    "here-documents in quotes": ('RUN echo "' + filled(" <<a") + '"', "ok"),
    "here-documents": ("RUN cat " + filled(" <<a"), "the here-document <<a does not end"),
    "a here-document": ("COPY <<a /b\n" + filled("b\n") + "a\n", "ok"),
    "variables in a here-document": ("COPY <<a /b\n" + filled("${b:-$c}\n") + "a\n", "ok"),
    "a line that is too long": ("# " + filled("a"), "longer than 65535 bytes"),
    "JSON in JSON": ("RUN " + filled("["), "must hold only strings"),
    "JSON in JSON that ends": ("CMD " + "[" * 99999 + "]" * 99999, "must hold only strings"),
    "a long JSON array": ("RUN [" + filled('"a",') + '"a"]', "ok"),
    "flags": ("RUN " + filled("--mount=target=/a ") + "true", "more than 1000 of --mount"),
    "one flag": ("RUN --" + filled("m") + " a", "unknown flag"),
    "an instruction": (filled("A"), "unknown instruction"),
    "a duration": ("HEALTHCHECK --interval=" + filled("1") + " CMD a", "invalid duration"),
    "a duration with a fraction": ("HEALTHCHECK --interval=1." + filled("1") + "s CMD a", "invalid duration"),
    "a duration of ages": ("HEALTHCHECK --interval=999999999999h CMD a", "is too long"),
    "retries": ("HEALTHCHECK --retries=" + filled("1") + " CMD a", "a whole number up to 2147483647"),
    "a port": ("EXPOSE " + filled("1"), "the form is PORT"),
    "ports": ("EXPOSE 1-" + filled("1"), "the form is PORT"),
    "a number of a stage": ("COPY --from=" + filled("1") + " a b", "there is no stage of that number"),
    "an owner of a mount": (f"RUN --mount=type=cache,target=/a,uid={'0' * 99999}1 a", "ok"),
    "a size of a mount": (f"RUN --mount=type=tmpfs,target=/a,size={'1' * 99999} a", "a number with a unit"),
    "a field of a mount": ("RUN --mount=" + filled("a") + " a", "=VALUE"),
    "fields of a mount": ("RUN --mount=" + filled("ro,") + " a", "needs a value"),
    "a null byte": ("RUN a\0b", "Dockerfile:2: the Dockerfile has a null byte"),
    "an escaped null byte": ('COPY ["a\\u0000", "b"]', "a word has a null byte"),
    "bytes that are no text": ("# fine here \udce9\nRUN A=caf\udce9", "Dockerfile:3: RUN has bytes that are not UTF-8"),
    "half a character": ('CMD ["\\ud800"]', "ok"),
}  # fmt: skip


@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize("name", BELOW)
def test_an_answer_comes_soon(name: str) -> None:
    text, expected = BELOW[name]
    began = time.monotonic()
    found = outcome("FROM scratch\n" + text, {f"i{n}": {} for n in range(9000)} if "images" in name else None)
    assert time.monotonic() - began < 60
    assert expected in found[:10_000] + found[-10_000:]


@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARG A=aaaaaaaaaa\n" + "ARG A=$A$A\n" * 60 + "FROM scratch", "does a variable hold itself"),
        (numbered("ARG A{m}=$A{n}\n") + "FROM scratch", "ok"),
        ("#" + " " * 60_000, "the Dockerfile is empty"),
        ("# escape = x" + " " * 60_000 + "y\nFROM scratch", "invalid escape character"),
        ("#" + " " * 60_000 + "escape=`\nFROM scratch", "ok"),
        (filled("# syntax=a\n"), "stands twice"),
        ("FROM " + filled("a."), "invalid image reference"),
        ("FROM scratch AS " + filled("a-"), "ok"),
        ("FROM scratch AS " + filled("a-") + "!", "invalid stage name"),
        ("FROM ${" + filled("a") + "}", "the image's name is empty"),
    ],
    ids=lambda value: value[:20].replace("\n", " "),
)
def test_an_answer_comes_soon_before_the_first_stage(text: str, expected: str) -> None:
    began = time.monotonic()
    assert expected in outcome(text)[-10_000:] + outcome(text)[:10_000]
    assert time.monotonic() - began < 60


def test_halves_of_characters_are_replaced_as_in_go() -> None:
    graph = build_graph(
        parse('FROM a\nCMD ["\\ud800x"]\n'), GraphOptions(), {"a": {"config": {"Env": ["A=\ud800"]}}}
    )
    assert graph.target_stage.config["Cmd"] == ["\ufffdx"]
    assert graph.target_stage.config["Env"][0] == "A=\ufffd"


@pytest.mark.parametrize("options", [{"build_args": {"A": "\udcff"}}, {"labels": (("\udcff", "a"),)}])
def test_what_the_user_gives_is_utf_8_too(options: dict) -> None:
    assert "it is not UTF-8" in outcome("FROM scratch\nARG A\n", **options)


JUNK = st.text(
    alphabet=st.one_of(
        st.sampled_from("ab1 =$${}'\"\\`[]<>-:,/*?#\n\t\r\0\udcff\ud800é\u202e"), st.characters()
    ),
    max_size=40,
)
FLAG = st.sampled_from(
    (
        "from chown chmod link mount network platform interval timeout retries start-period security exclude x"
    ).split()
).flatmap(lambda name: JUNK.map(lambda value: f"--{name}={value} "))
INSTRUCTION = st.builds(
    lambda name, flags, rest: f"{name} {''.join(flags)}{rest}\n",
    st.sampled_from([*KNOWN, "", "\\", "# escape=`", "#"]),
    st.lists(FLAG, max_size=2),
    JUNK,
)
DOCKERFILE = st.one_of(
    JUNK,
    st.lists(INSTRUCTION, max_size=6).map("".join),
    st.lists(INSTRUCTION, max_size=6).map(lambda items: "FROM a\n" + "".join(items)),
)
WORDS = st.lists(JUNK, max_size=3)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "Env": st.one_of(st.none(), WORDS),
        "OnBuild": st.one_of(st.none(), WORDS, st.lists(INSTRUCTION, max_size=3)),
        "Labels": st.dictionaries(JUNK, JUNK, max_size=2),
        "Volumes": st.dictionaries(JUNK, st.just({}), max_size=2),
        "ExposedPorts": st.one_of(st.none(), st.dictionaries(JUNK, st.just({}), max_size=2)),
        "User": JUNK,
        "WorkingDir": JUNK,
        "Shell": WORDS,
        "Cmd": st.one_of(st.none(), WORDS),
        "Entrypoint": WORDS,
    },
)


@settings(max_examples=1000)
@given(DOCKERFILE, CONFIG)
def test_any_text_upon_any_image_is_a_graph_or_an_error(text: str, config: dict) -> None:
    try:
        instructions = parse(text)
        options = GraphOptions(build_args={"a": "b"})
        found = references(instructions, options)
        graph = build_graph(instructions, options, {name: {"config": config} for name in found})
    except BuildError as error:
        assert error.what
        return
    assert graph.steps
    for step in graph.steps:
        assert "\0" not in step.title


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_instructions_or_an_error(data: bytes) -> None:
    outcome(data.decode("utf-8", "surrogateescape"))
