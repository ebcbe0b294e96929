"""The form of every instruction."""

import pytest

from buildfront.dockerfile import instructions as ast
from buildfront.dockerfile import parse
from buildfront.dockerfile.forms import KNOWN
from buildfront.dockerfile.json_form import json_array
from buildfront.durations import parse_duration
from buildfront.errors import BuildError, SourceRange

SECOND = 10**9


def one(line, head=""):
    return parse(f"{head}{line}\n", "Dockerfile")[0]


def fields(item):
    return {
        name: value
        for name, value in vars(item).items()
        if name not in ("source", "text", "escape", "keyword", "written_name") and value
    }


def exec_(*words):
    return ast.Command(words, shell=False)


def shell(text, *documents):
    return ast.Command((text,), shell=True, documents=documents)


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
        ("RUN echo $((1<<n))", ast.Run, {"command": shell("echo $((1<<n))")}),
        ("RUN", ast.Run, {"command": shell("")}),
        ("RUN --network=none", ast.Run, {"command": shell(""), "network": "none"}),
        ("RUN --security=insecure a", ast.Run, {"command": shell("a"), "security": "insecure"}),
        (
            "RUN --device=vendor.com/c=d --device=name=n,required a",
            ast.Run,
            {
                "command": shell("a"),
                "devices": (ast.DeviceFlag("vendor.com/c=d", False), ast.DeviceFlag("n", True)),
            },
        ),
        ('RUN --network="none', ast.Run, {"command": shell(""), "network": "none"}),
        ("RUN a\tb  c", ast.Run, {"command": shell("a\tb  c")}),
        ('RUN echo " <<EOF"', ast.Run, {"command": shell('echo " <<EOF"')}),
        ("COPY a b", ast.Copy, {"sources": ("a",), "dest": "b"}),
        ("COPY a b c/", ast.Copy, {"sources": ("a", "b"), "dest": "c/"}),
        ('COPY ["a b", "c"]', ast.Copy, {"sources": ("a b",), "dest": "c"}),
        (
            "COPY --from=x --chown=1:2 --chmod=644 --link a b",
            ast.Copy,
            {"sources": ("a",), "dest": "b", "from_": "x", "chown": "1:2", "chmod": "644", "link": True},
        ),
        ("COPY --link=FALSE a b", ast.Copy, {"sources": ("a",), "dest": "b"}),
        ("COPY --from= --chown= a b", ast.Copy, {"sources": ("a",), "dest": "b"}),
        (
            "COPY --parents --exclude=x --exclude='*.o' a b",
            ast.Copy,
            {"sources": ("a",), "dest": "b", "parents": True, "excludes": ("x", "*.o")},
        ),
        ("COPY a\\ b 'c d' e", ast.Copy, {"sources": ("a\\", "b", "'c", "d'"), "dest": "e"}),
        ("COPY a\xa0b c", ast.Copy, {"sources": ("a\xa0b",), "dest": "c"}),
        (
            "ADD --checksum=sha256:x --keep-git-dir --unpack=false --link=True http://x/y z",
            ast.Copy,
            {
                "sources": ("http://x/y",),
                "dest": "z",
                "add": True,
                "checksum": "sha256:x",
                "keep_git_dir": True,
                "link": True,
            },
        ),
        ("COPY -- --a b", ast.Copy, {"sources": ("--a",), "dest": "b"}),
        ("ADD a.tar b", ast.Copy, {"sources": ("a.tar",), "dest": "b", "add": True}),
        ("ADD repo.git b", ast.Copy, {"sources": ("repo.git",), "dest": "b", "add": True}),
        ("ENV a=1 b=2", ast.Pairs, {"kind": "ENV", "pairs": (("a", "1"), ("b", "2"))}),
        ("ENV a b c", ast.Pairs, {"kind": "ENV", "pairs": (("a", "b c"),), "legacy": True}),
        ("LABEL a=1", ast.Pairs, {"kind": "LABEL", "pairs": (("a", "1"),)}),
        ("LABEL a b", ast.Pairs, {"kind": "LABEL", "pairs": (("a", "b"),), "legacy": True}),
        ("ARG a", ast.Arg, {"args": (("a", None),)}),
        ("ARG a=1 b c=", ast.Arg, {"args": (("a", "1"), ("b", None), ("c", ""))}),
        ("ARG a-b.c=1 1d $e", ast.Arg, {"args": (("a-b.c", "1"), ("1d", None), ("$e", None))}),
        ("ARG --x a", ast.Arg, {"args": (("a", None),)}),
        ("STOPSIGNAL --x 9", ast.Word, {"kind": "STOPSIGNAL", "value": "9"}),
        ("WORKDIR /a b", ast.Word, {"kind": "WORKDIR", "value": "/a b"}),
        ("USER a:b", ast.Word, {"kind": "USER", "value": "a:b"}),
        ("STOPSIGNAL SIGINT", ast.Word, {"kind": "STOPSIGNAL", "value": "SIGINT"}),
        ("MAINTAINER A <a@b>", ast.Word, {"kind": "MAINTAINER", "value": "A <a@b>"}),
        ("EXPOSE 81/udp 80 $x", ast.Words, {"kind": "EXPOSE", "values": ("$x", "80", "81/udp")}),
        ("VOLUME /a /b", ast.Words, {"kind": "VOLUME", "values": ("/a", "/b")}),
        ('VOLUME ["/a b"]', ast.Words, {"kind": "VOLUME", "values": ("/a b",)}),
        ('CMD ["a"]', ast.Entry, {"kind": "CMD", "command": exec_("a")}),
        ("CMD a b", ast.Entry, {"kind": "CMD", "command": shell("a b")}),
        ("CMD", ast.Entry, {"kind": "CMD", "command": shell("")}),
        ('CMD ["a" "b"]', ast.Entry, {"kind": "CMD", "command": shell('["a" "b"]')}),
        ('CMD \xa0["a"]', ast.Entry, {"kind": "CMD", "command": exec_("a")}),
        ("CMD []", ast.Entry, {"kind": "CMD", "command": exec_()}),
        ('ENTRYPOINT ["a", "b"]', ast.Entry, {"kind": "ENTRYPOINT", "command": exec_("a", "b")}),
        ("ENTRYPOINT", ast.Entry, {"kind": "ENTRYPOINT", "command": shell("")}),
        ("ENTRYPOINT []", ast.Entry, {"kind": "ENTRYPOINT", "command": exec_()}),
        ("ENTRYPOINT a", ast.Entry, {"kind": "ENTRYPOINT", "command": shell("a")}),
        ('SHELL ["/bin/bash", "-c"]', ast.Shell, {"words": ("/bin/bash", "-c")}),
        ("HEALTHCHECK NONE", ast.Healthcheck, {}),
        ("HEALTHCHECK none", ast.Healthcheck, {}),
        ("HEALTHCHECK --interval=x NONE", ast.Healthcheck, {}),
        (
            "HEALTHCHECK --interval= --timeout=+1s --retries=+0 CMD a",
            ast.Healthcheck,
            {"command": shell("a"), "timeout": SECOND},
        ),
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
        ("onBuild  RNU  a ", ast.Onbuild, {"trigger": "RNU  a "}),
        ("ONBUILD COPY a", ast.Onbuild, {"trigger": "COPY a"}),
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
        ("ZZZZZZZ a", "is it a Dockerfile"),
        *((name, f"{name} needs") for name in KNOWN if name not in ("RUN", "CMD", "ENTRYPOINT")),
        ("FROM a b", "the form is FROM IMAGE"),
        ("FROM a AS", "the form is FROM IMAGE"),
        ("FROM a AS b c", "the form is FROM IMAGE"),
        ("FROM a OF b", "the form is FROM IMAGE"),
        ('VOLUME ["a", " "]', "VOLUME has an empty path"),
        ("ONBUILD ENV a", "the form is NAME=VALUE"),
        ('ONBUILD CMD ["a", 1]', "must hold only strings"),
        ("ONBUILD --x RUN a", "unknown flag --x for ONBUILD"),
        ("FROM a AS 1b", "invalid stage name '1b'"),
        ("FROM a AS b/c", "invalid stage name 'b/c'"),
        ("FROM --platform a", "the flag needs a value"),
        ("FROM --platfrom=x a", "unknown flag --platfrom for FROM .did you mean --platform"),
        ("FROM --platform=a --platform=b c", "FROM --platform is given twice"),
        ("RUN --network=foo a", "RUN --network=foo: known are default, none, host"),
        ("RUN []", "empty list"),
        ("RUN --security=tight a", "RUN --security=tight: known are sandbox, insecure"),
        ("RUN --network= a", "RUN --network=: known are default, none, host"),
        ("RUN --device=x,y a", "RUN --device=x,y: unknown key 'y'"),
        ("RUN --device=x,required=maybe a", "required=maybe is neither true nor false"),
        ("RUN --device=name=x,name=y a", "the name is x already"),
        ("RUN <<EOF", "the here-document <<EOF does not end"),
        ("RUN cat <<-'EOF' > x", "the here-document <<EOF does not end"),
        ("RUN [ -f x ] && cat <<EOF", "the here-document <<EOF does not end"),
        ("RUN echo $((1 << n))", "the here-document <<n.. does not end"),
        ('COPY ["a", "<<EOF"]', "COPY <<EOF: a here-document can't be the destination"),
        ("COPY --link= a b", "COPY --link=: it is true or false"),
        ("COPY --parents=1 a b", "COPY --parents=1: it is true or false"),
        ("COPY --exclude a b", "the flag needs a value"),
        ("COPY a", "at least one source and a destination"),
        ('COPY ["a"]', "at least one source and a destination"),
        ("COPY --fro=x a b", "did you mean --from"),
        ("COPY --from a b", "the flag needs a value"),
        ("COPY --link=maybe a b", "it is true or false"),
        ("COPY --chown=1 --chown=2 a b", "given twice"),
        ("ADD --from=x a b", "unknown flag --from for ADD"),
        ("ENV a", "the form is NAME=VALUE"),
        ("ENV a=1 b", "the form is NAME=VALUE"),
        ("ENV =1", "name before = is empty"),
        ("ENV --x=1 a=b", "unknown flag --x for ENV .it takes no flags"),
        ("LABEL a", "the form is NAME=VALUE"),
        ("ARG =1", "the form is NAME or NAME=DEFAULT"),
        ("CMD --x", "unknown flag --x for CMD"),
        ('CMD ["a", 1]', "must hold only strings"),
        ("VOLUME []", "VOLUME needs at least one path"),
        ("SHELL /bin/sh", "SHELL needs a JSON array"),
        ("SHELL []", "SHELL needs a JSON array"),
        ("HEALTHCHECK a", "the form is HEALTHCHECK"),
        ("HEALTHCHECK CMD", "the form is HEALTHCHECK"),
        ("HEALTHCHECK CMD []", "the form is HEALTHCHECK"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --interval=1 CMD a", "invalid duration '1'"),
        ("HEALTHCHECK --interval=1us CMD a", "too short"),
        ("HEALTHCHECK --retries=-1 CMD a", "a whole number"),
        ("HEALTHCHECK --retries=x CMD a", "a whole number"),
        ("HEALTHCHECK --intreval=1s CMD a", "did you mean --interval"),
        ("ONBUILD ONBUILD RUN a", "ONBUILD is not allowed as an ONBUILD trigger"),
        ("ONBUILD FROM a", "FROM is not allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "MAINTAINER is not allowed as an ONBUILD trigger"),
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
    assert caught.value.about == "--chwon"
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
        ("[NaN]", None),
        ("[1e999]", None),
        ('["a\tb"]', None),
        ('\u3000["a"]', ["a"]),
        ('["\\ud800"]', ["\ufffd"]),
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
