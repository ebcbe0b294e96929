"""Which rules are on: the directive, the comment above an instruction, the build argument, and the caller."""

from __future__ import annotations

import pytest

from buildfront.dockerfile.lint import LintOptions, lint
from buildfront.dockerfile.lint.check_settings import check_directive, parse_settings, settings_of
from buildfront.errors import BuildError

TEXT = "FROM scratch as base\ncopy a /\n"


def names(text: str, **options: object) -> list[str]:
    return [item.rule for item in lint(text, options=LintOptions(**options)).findings]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("what", "'what' is not an option of check"),
        ("skp=all", "'skp' is not an option of check"),
        ("skip=a;error=maybe", "error=maybe is neither true nor false"),
        ("error=true;skip=a;experimental=b;c", "'c' is not"),
    ],
)
def test_a_malformed_directive_is_an_error_at_its_line(text: str, what: str) -> None:
    if text.endswith(";c"):  # there are at most three parts, so that the last one has all the rest
        assert "b;c" in parse_settings(text).enable
        return
    result = lint(f"# syntax=a\n# check={text}\nFROM scratch\n")
    assert result.error is not None and result.error.where is not None and result.error.where.start == 2
    assert what in result.error.what
    with pytest.raises(BuildError, match="BUILDKIT_DOCKERFILE_CHECK"):
        settings_of("FROM scratch\n", "Dockerfile", text)


def test_the_build_argument_takes_the_place_of_the_directive() -> None:
    assert names("#check=skip=all\n" + TEXT, check="skip=ConsistentInstructionCasing;error=true") == [
        "FromAsCasing"
    ]
    assert names("#check=error=true\n" + TEXT, check="skip=all") == []
    assert lint("#check=error=true\n" + TEXT).fails and not lint("#check=error=0\n" + TEXT).fails


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# check=skip=all\n", "skip=all"),
        ("\ufeff# syntax=x\r\n#  CHECK = error=true  words \r\n", "error=true"),
        ("#!/usr/bin/env x\n# escape=`\n# check=a\n", "a"),
        ("\n# check=skip=all\n", None),
        ("# a comment\n# check=skip=all\n", None),
        ("# check =\n", None),
    ],
)
def test_the_directive_is_found_among_the_directives_at_the_top(text: str, found: str | None) -> None:
    value = check_directive(text, "Dockerfile")
    assert (value[0] if value else None) == found


def test_rules_of_buildfront_are_off_until_they_are_asked_for() -> None:
    text = "FROM debian\nRUN sudo id\n"
    assert names(text) == []
    assert names("# check=experimental=all\n" + text) == []
    assert names("# check=experimental=buildfront/Sudo\n" + text) == ["buildfront/Sudo"]
    assert "buildfront/LatestTag" in names("# check=experimental=buildfront/all\n" + text)
    assert names("# check=experimental=buildfront/all;skip=buildfront/Sudo\n" + text) == [
        "buildfront/LatestTag",
        "buildfront/UnpinnedDigest",
    ]
    assert names(text, enable=frozenset({"buildfront/Sudo"})) == ["buildfront/Sudo"]
    assert names("FROM debian\n# check=experimental=buildfront/Sudo\nRUN sudo id\n") == ["buildfront/Sudo"]
    skipped = "# check=experimental=buildfront/Sudo\nFROM debian\n# check=skip=buildfront/Sudo\nRUN sudo id\n"
    assert names(skipped) == []


def test_a_comment_above_an_instruction_counts_for_it_only() -> None:
    text = "FROM scratch\n# check=skip=LegacyX\n# check=skip=WorkdirRelativePath\nWORKDIR a\n"
    assert names(text) == ["WorkdirRelativePath"], "the first check= counts"
    assert names("FROM scratch\n# check=bad\nWORKDIR a\n") == ["WorkdirRelativePath"]
    assert names("FROM scratch\n# check=skip=all\n#\nWORKDIR a\n") == ["WorkdirRelativePath"]
    assert names("FROM scratch\n# check=skip=all\n\nWORKDIR a\n") == []


def test_levels() -> None:
    levels = [item.level for item in lint(TEXT).findings]
    assert levels == ["warning", "warning"]
    assert {item.level for item in lint("# check=error=true\n" + TEXT).findings} == {"error"}
    some = lint(TEXT, options=LintOptions(errors=frozenset({"FromAsCasing"}))).findings
    assert {item.rule: item.level for item in some} == {
        "FromAsCasing": "error",
        "ConsistentInstructionCasing": "warning",
    }
