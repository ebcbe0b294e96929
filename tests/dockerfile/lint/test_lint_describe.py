"""The answers to ``--call=outline`` and ``--call=targets``, as BuildKit's own tests have them."""

from __future__ import annotations

import base64
import json

import pytest

from buildfront.dockerfile.lint import LintOptions
from buildfront.dockerfile.lint.describe import list_targets, outline
from buildfront.errors import BuildError

ARGS = """
ARG inherited=box
ARG inherited2=box2
ARG unused=abc${inherited2}
# sfx is a suffix
ARG sfx="usy${inherited}"

FROM b${sfx} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
RUN true

FROM alpine${unused} AS second
ARG BAZ
RUN true

FROM scratch AS third
ARG ABC=a
# check=skip=all
ARG password
# alternate_password will show up in the outline
# check=skip=all
ARG alternate_password

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /

FROM second
"""


def test_the_arguments_of_a_target() -> None:
    found = outline(ARGS, "Dockerfile", LintOptions(build_args={"BAR": "678"}, target="target"))
    assert (found.name, found.description) == ("target", "defines build target")
    assert [(item.name, item.value, item.description, item.where.start) for item in found.args] == [
        ("inherited", "box", "", 2),
        ("sfx", "usybox", "is a suffix", 6),
        ("FOO", "123", "", 10),
        ("BAR", "678", "is a number", 12),
        ("ABC", "a", "", 20),
        ("password", "", "", 22),
        ("alternate_password", "", "will show up in the outline", 25),
    ]


def test_the_secrets_and_agents_of_a_target() -> None:
    text = """
FROM busybox AS first
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true

FROM alpine AS second
RUN --mount=type=secret,id=unused --mount=type=ssh,id=ssh2 true

FROM scratch AS third
ARG BAR
RUN --mount=type=secret,id=second${BAR} --mount=type=cache,target=/root/.cache true

FROM third AS target
COPY --from=first /foo /
RUN --mount=type=ssh,id=ssh3,required true

FROM second
"""
    found = outline(text, "Dockerfile", LintOptions(build_args={"BAR": "678"}, target="target"))
    assert [(item.name, item.required, item.where.start) for item in found.secrets] == [
        ("passwd", True, 3),
        ("second678", False, 10),
    ]
    assert [(item.name, item.required, item.where.start) for item in found.ssh] == [
        ("default", False, 3),
        ("ssh3", True, 14),
    ]
    assert [(item.name, item.where.start) for item in found.caches] == [("/root/.cache", 10)]
    value = json.loads(found.render("json"))
    assert list(value) == ["name", "args", "secrets", "ssh", "cache", "sources"]
    assert value["secrets"][0] == {
        "name": "passwd",
        "required": True,
        "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]},
    }
    assert base64.b64decode(value["sources"][0]).decode() == text
    assert found.render() == (
        "TARGET: target\n\nBUILD ARG   VALUE   DESCRIPTION\nBAR         678     \n\n"
        "SECRET      REQUIRED\npasswd      true\nsecond678   \n\nSSH       REQUIRED\ndefault   \nssh3      true\n\n"
    )


def test_arguments_that_are_made_of_each_other() -> None:
    text = """
ARG FOO=123
ARG ABC=abc
ARG DEF=def
ARG FOO=${FOO}${ABC}
ARG BAR=${FOO}456
ARG FOO=${FOO}456${BAR}
FROM scratch AS one
FROM a${FOO} AS two
"""
    args = outline(text, "D", LintOptions()).args
    assert {item.name: item.value for item in args} == {
        "ABC": "abc",
        "BAR": "123abc456",
        "FOO": "123abc456123abc456",
    }
    assert outline(text, "D", LintOptions(target="one")).args == ()


def test_an_outline_of_a_target_that_does_not_exist() -> None:
    with pytest.raises(BuildError, match="no stage is called 'nothing'"):
        outline("FROM scratch\n", "D", LintOptions(target="nothing"))
    with pytest.raises(BuildError, match="xml"):
        outline("FROM scratch\n", "D", LintOptions()).render("xml")
    assert outline("FROM scratch\n", "D", LintOptions()).render() == ""


TARGETS = """
# build defines stage for compiling the binary
FROM alpine AS build
RUN true

FROM --platform=$BUILDPLATFORM busybox as second
RUN false

FROM alpine
RUN false

# binary returns the compiled binary
FROM second AS binary
"""


def test_the_targets() -> None:
    found = list_targets(TARGETS, "Dockerfile")
    rows = [
        (item.name, item.base, item.description, item.default, item.where.start) for item in found.targets
    ]
    assert rows == [
        ("build", "alpine", "defines stage for compiling the binary", False, 3),
        ("second", "busybox", "", False, 6),
        ("", "alpine", "", False, 9),
        ("binary", "second", "returns the compiled binary", True, 13),
    ]
    assert found.render() == (
        "TARGET           DESCRIPTION\nbuild            defines stage for compiling the binary\n"
        "second           \n                 \nbinary (default) returns the compiled binary\n"
    )
    value = json.loads(found.render("json"))
    assert value["targets"][1] == {
        "name": "second",
        "base": "busybox",
        "platform": "$BUILDPLATFORM",
        "location": {"ranges": [{"start": {"line": 6}, "end": {"line": 6}}]},
    }
    assert value["targets"][3]["default"] is True
    assert list_targets("FROM a\n", "D").render() == "TARGET    DESCRIPTION\n(default) \n"
