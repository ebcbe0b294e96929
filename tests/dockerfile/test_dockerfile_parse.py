"""The form of every instruction."""

import pytest

from buildfront.dockerfile import instructions as ast
from buildfront.dockerfile import parse
from buildfront.dockerfile.parse import KNOWN, json_array
from buildfront.durations import parse_duration
from buildfront.errors import BuildError, SourceRange

SECOND = 10**9


def one(line, head=""):
    return parse(f"{head}{line}\n", "Dockerfile")[0]


def fields(item):
    return {
        name: value
        for name, value in vars(item).items()
        if name not in ("source", "text", "escape") and value
    }


def exec_(*words):
    return ast.Command(words, shell=False)


def shell(text):
    return ast.Command((text,), shell=True)


@pytest.mark.parametrize(
    ("line", "kind", "expected"),
    [
        ("FROM a", ast.From, {"image": "a"}),
        ("FROM a:1@sha256:x AS B", ast.From, {"image": "a:1@sha256:x", "name": "b"}),
        ("FROM a as b-1.x_y", ast.From, {"image": "a", "name": "b-1.x_y"}),
        ("FROM --platform=$BUILDPLATFORM a", ast.From, {"image": "a", "platform": "$BUILDPLATFORM"}),
        ("FROM --platform=linux/arm64   ${i:-a}", ast.From, {"image": "${i:-a}", "platform": "linux/arm64"}),
        ("RUN echo a", ast.Run, {"command": shell("echo a")}),
        ("RUN --network=none echo a", ast.Run, {"command": shell("echo a"), "network": "none"}),
        (
            r"RUN --network=host echo $'it\'s'",
            ast.Run,
            {"command": shell(r"echo $'it\'s'"), "network": "host"},
        ),
        ('RUN --network="none" a', ast.Run, {"command": shell("a"), "network": "none"}),
        ('RUN ["a", "b c"]', ast.Run, {"command": exec_("a", "b c")}),
        ("RUN ['a', 'b']", ast.Run, {"command": shell("['a', 'b']")}),
        ("RUN [ -f x ]", ast.Run, {"command": shell("[ -f x ]")}),
        ("RUN cat <<<word", ast.Run, {"command": shell("cat <<<word")}),
        ("RUN echo $((1 << n))", ast.Run, {"command": shell("echo $((1 << n))")}),
        ('RUN echo " <<EOF"', ast.Run, {"command": shell('echo " <<EOF"')}),
        ("COPY a b", ast.Copy, {"sources": ("a",), "dest": "b"}),
        ("COPY a b c/", ast.Copy, {"sources": ("a", "b"), "dest": "c/"}),
        ('COPY ["a b", "c"]', ast.Copy, {"sources": ("a b",), "dest": "c"}),
        (
            "COPY --from=x --chown=1:2 --chmod=644 --link a b",
            ast.Copy,
            {"sources": ("a",), "dest": "b", "from_": "x", "chown": "1:2", "chmod": "644", "link": True},
        ),
        ("COPY --link=false a b", ast.Copy, {"sources": ("a",), "dest": "b"}),
        ("COPY -- --a b", ast.Copy, {"sources": ("--a",), "dest": "b"}),
        ("ADD a.tar b", ast.Copy, {"sources": ("a.tar",), "dest": "b", "add": True}),
        ("ADD repo.git b", ast.Copy, {"sources": ("repo.git",), "dest": "b", "add": True}),
        ("ENV a=1 b=2", ast.Pairs, {"kind": "ENV", "pairs": (("a", "1"), ("b", "2"))}),
        ("ENV a b c", ast.Pairs, {"kind": "ENV", "pairs": (("a", "b c"),)}),
        ("LABEL a=1", ast.Pairs, {"kind": "LABEL", "pairs": (("a", "1"),)}),
        ("LABEL a b", ast.Pairs, {"kind": "LABEL", "pairs": (("a", "b"),)}),
        ("ARG a", ast.Arg, {"args": (("a", None),)}),
        ("ARG a=1 b c=", ast.Arg, {"args": (("a", "1"), ("b", None), ("c", ""))}),
        ("WORKDIR /a b", ast.Word, {"kind": "WORKDIR", "value": "/a b"}),
        ("USER a:b", ast.Word, {"kind": "USER", "value": "a:b"}),
        ("STOPSIGNAL SIGINT", ast.Word, {"kind": "STOPSIGNAL", "value": "SIGINT"}),
        ("MAINTAINER A <a@b>", ast.Word, {"kind": "MAINTAINER", "value": "A <a@b>"}),
        ("EXPOSE 80 81/udp", ast.Words, {"kind": "EXPOSE", "values": ("80", "81/udp")}),
        ("VOLUME /a /b", ast.Words, {"kind": "VOLUME", "values": ("/a", "/b")}),
        ('VOLUME ["/a b"]', ast.Words, {"kind": "VOLUME", "values": ("/a b",)}),
        ('CMD ["a"]', ast.Entry, {"kind": "CMD", "command": exec_("a")}),
        ("CMD a b", ast.Entry, {"kind": "CMD", "command": shell("a b")}),
        ("CMD []", ast.Entry, {"kind": "CMD", "command": exec_()}),
        ('ENTRYPOINT ["a", "b"]', ast.Entry, {"kind": "ENTRYPOINT", "command": exec_("a", "b")}),
        ("ENTRYPOINT []", ast.Entry, {"kind": "ENTRYPOINT", "command": exec_()}),
        ("ENTRYPOINT a", ast.Entry, {"kind": "ENTRYPOINT", "command": shell("a")}),
        ('SHELL ["/bin/bash", "-c"]', ast.Shell, {"words": ("/bin/bash", "-c")}),
        ("HEALTHCHECK NONE", ast.Healthcheck, {}),
        ("HEALTHCHECK none", ast.Healthcheck, {}),
        ("HEALTHCHECK CMD a b", ast.Healthcheck, {"command": shell("a b")}),
        ("HEALTHCHECK CMD\ta", ast.Healthcheck, {"command": shell("a")}),
        ('HEALTHCHECK cmd ["a"]', ast.Healthcheck, {"command": exec_("a")}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=2s --start-period=0 --start-interval=1s --retries=3 CMD a",
            ast.Healthcheck,
            {
                "command": shell("a"),
                "interval": 90 * SECOND,
                "timeout": 2 * SECOND,
                "start_interval": SECOND,
                "retries": 3,
            },
        ),
        ("ONBUILD RUN a", ast.Onbuild, {"trigger": "RUN a"}),
        ("ONBUILD\tadd a b", ast.Onbuild, {"trigger": "add a b"}),
    ],
)
def test_forms(line, kind, expected):
    item = one(line)
    assert type(item) is kind
    assert fields(item) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RNU a", "unknown instruction RNU .did you mean RUN"),
        ("WOKRDIR a", "did you mean WORKDIR"),
        ("ZZZZZZZ a", "known are ADD, ARG"),
        *((name, f"{name} needs an argument") for name in KNOWN),
        ("FROM a b", "the form is FROM IMAGE"),
        ("FROM a AS", "the form is FROM IMAGE"),
        ("FROM a AS b c", "the form is FROM IMAGE"),
        ("FROM a OF b", "the form is FROM IMAGE"),
        ("FROM a AS 1b", "invalid stage name '1b'"),
        ("FROM a AS b/c", "invalid stage name 'b/c'"),
        ("FROM --platform= a", "the flag needs a value"),
        ("FROM --platform a", "the flag needs a value"),
        ("FROM --platfrom=x a", "unknown flag --platfrom for FROM .did you mean --platform"),
        ("FROM --platform=a --platform=b c", "FROM --platform is given twice"),
        ("RUN --network=none", "needs a command after its flags"),
        ("RUN --network=foo a", "RUN --network=foo: known are default, none, host"),
        ("RUN --device=x a", "RUN --device is not supported yet"),
        ("RUN --security=insecure a", "RUN --security is not supported yet"),
        ("RUN []", "empty list"),
        ("RUN <<EOF", "here-document .<<EOF. is not supported"),
        ("RUN cat <<-'EOF' > x", "here-document"),
        ("RUN [ -f x ] && cat <<EOF", "here-document"),
        ('RUN echo " <<A" && cat <<EOF', "here-document .<<EOF"),
        ("COPY <<EOF /x", "here-document"),
        ("ADD <<EOF /x", "here-document"),
        ("COPY a", "at least one source and a destination"),
        ('COPY ["a"]', "at least one source and a destination"),
        ("COPY --parents a b", "COPY --parents is not supported yet"),
        ("COPY --exclude=x a b", "COPY --exclude is not supported yet"),
        ("COPY --fro=x a b", "did you mean --from"),
        ("COPY --from a b", "the flag needs a value"),
        ("COPY --link=maybe a b", "it is true or false"),
        ("COPY --chown=1 --chown=2 a b", "given twice"),
        ("COPY 'a b", "closing ' is missing"),
        ("ADD --from=x a b", "unknown flag --from for ADD"),
        ("ADD --checksum=sha256:x a b", "ADD --checksum is not supported yet"),
        ("ADD --keep-git-dir a b", "ADD --keep-git-dir is not supported yet"),
        ("ADD http://x/y z", r"ADD of a URL \(http://x/y\) is not supported"),
        ("ADD https://x/y z", "ADD of a URL"),
        ("ADD git@github.com:a/b.git z", "ADD of a URL"),
        ("ENV a", "the form is NAME=VALUE"),
        ("ENV a=1 b", "the form is NAME=VALUE"),
        ("ENV =1", "name before = is empty"),
        ("ENV --x=1", "unknown flag --x for ENV .it takes no flags"),
        ("LABEL a", "the form is NAME=VALUE"),
        ("ARG 1a", "the form is NAME or NAME=DEFAULT"),
        ("ARG =1", "the form is NAME or NAME=DEFAULT"),
        ("CMD --x", "unknown flag --x for CMD"),
        ('CMD ["a", 1]', "must hold only strings"),
        ("VOLUME []", "VOLUME needs at least one path"),
        ("SHELL /bin/sh", "SHELL needs a JSON array"),
        ("SHELL []", "SHELL needs a JSON array"),
        ("HEALTHCHECK a", "the form is HEALTHCHECK"),
        ("HEALTHCHECK CMD", "the form is HEALTHCHECK"),
        ("HEALTHCHECK CMD []", "empty list"),
        ("HEALTHCHECK NONE a", "the form is HEALTHCHECK"),
        ("HEALTHCHECK --interval=1s NONE", "takes no flags"),
        ("HEALTHCHECK --interval=1 CMD a", "invalid duration '1'"),
        ("HEALTHCHECK --interval=1us CMD a", "too short"),
        ("HEALTHCHECK --retries=-1 CMD a", "a whole number"),
        ("HEALTHCHECK --retries=x CMD a", "a whole number"),
        ("HEALTHCHECK --intreval=1s CMD a", "did you mean --interval"),
        ("ONBUILD ONBUILD RUN a", "ONBUILD is not allowed as an ONBUILD trigger"),
        ("ONBUILD FROM a", "FROM is not allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "MAINTAINER is not allowed as an ONBUILD trigger"),
        ("ONBUILD RNU a", "did you mean RUN"),
        ("ONBUILD COPY a", "at least one source and a destination"),
    ],
)
def test_malformed(line, message):
    with pytest.raises(BuildError, match=message) as caught:
        parse(f"# first\n\n{line}\n", "D")
    assert caught.value.where == SourceRange("D", 3, 3)
    assert str(caught.value).startswith("D:3: ")


def test_an_error_names_all_lines_of_its_instruction():
    with pytest.raises(BuildError) as caught:
        parse("FROM a\nCOPY \\\n  --chwon=1 \\\n\n  a b\n", "D")
    assert caught.value.where == SourceRange("D", 2, 5)
    assert caught.value.hint == "did you mean --chown?"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_no_instruction(text):
    with pytest.raises(BuildError, match="the Dockerfile is empty"):
        parse(text)


def test_the_escape_character_goes_with_the_instructions():
    items = parse("# escape=`\nFROM a\nENV x=C:\\dir y=`$z\n")
    assert {item.escape for item in items} == {"`"}
    assert items[1].pairs == (("x", "C:\\dir"), ("y", "`$z"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("[]", []),
        ('["a",]', None),
        ("['a']", None),
        ('["a"] x', None),
        ('["\\u00e9"]', ["é"]),
        ('"a"', None),
        ('{"a": 1}', None),
    ],
)
def test_json_array(text, expected):
    assert json_array(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("0s", 0),
        ("1s", SECOND),
        ("1m30s", 90 * SECOND),
        ("1.5h", 5400 * SECOND),
        (".5s", SECOND // 2),
        ("2.s", 2 * SECOND),
        ("2.3ms", 2_300_000),
        ("1h1m1s1ms1us1ns", 3661 * SECOND + 1_001_001),
        ("1000µs", 10**6),
    ],
)
def test_durations(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "1", "s", "1s2", "-1s", "1 s", ".s", "1d", "١s"])
def test_bad_durations(text):
    with pytest.raises(BuildError, match="invalid duration"):
        parse_duration(text)
