"""BuildKit's rules: what each finds, with its message and line, as BuildKit's own tests have it."""

from __future__ import annotations

import pytest

from buildfront.dockerfile import ignore
from buildfront.dockerfile.lint import RULES, LintOptions, LintResult, lint


def rows(result: LintResult) -> list[str]:
    """Return the findings as BuildKit prints them in one line, by line."""
    found = [
        (item.where.start, f"{item.rule}: {item.message} (line {item.where.start})")
        for item in result.findings
    ]
    return [text for _, text in sorted(found)]


CASING = (
    "ConsistentInstructionCasing: Command '{}' should match the case of the command majority ({}) (line {})"
)
MULTIPLE = (
    "MultipleInstructionsDisallowed: Multiple {} instructions should not be used in the same stage because only the"
    " last one will be used (line {})"
)
JSON = (
    "JSONArgsRecommended: JSON arguments recommended for {} to prevent unintended behavior related to OS signals"
    " (line 3)"
)
LEGACY = (
    'LegacyKeyValueFormat: "{0} key=value" should be used instead of legacy "{0} key value" format (line {1})'
)
SECRET = 'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data ({} "{}") (line {})'
COMMENT = (
    "InvalidDefinitionDescription: Comment for {} should follow the format: `# {} <description>` (line {})"
)
DEFAULT = (
    "InvalidDefaultArgInFrom: Default value for ARG {} results in empty or invalid base image name (line 3)"
)
UNDEFINED = "UndefinedVar: Usage of undefined variable '${}'{} (line {})"
NOT_DECLARED = "UndefinedArgInFrom: FROM argument '{}' is not declared{} (line {})"
REDUNDANT = (
    "RedundantTargetPlatform: Setting platform to predefined {} in FROM is redundant as this is the default behavior"
    " (line 2)"
)
EXPOSE = (
    "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '{}'"
    " (line 3)"
)
PROTOCOL = "ExposeProtoCasing: Defined protocol '{}' in EXPOSE instruction should be lowercase (line 3)"
AS = "FromAsCasing: '{}' and '{}' keywords' casing do not match (line {})"

CASES: list[tuple[str, list[str]]] = [
    ("#check=skip=all\nFROM scratch as base\ncopy Dockerfile .\n", []),
    ("#check=skip=all;error=true\nFROM scratch as base\ncopy Dockerfile .\n", []),
    ("#check=skip=ConsistentInstructionCasing,FromAsCasing\nFROM scratch as base\ncopy Dockerfile .\n", []),
    (
        "#check=skip=ConsistentInstructionCasing\nFROM scratch as base\ncopy Dockerfile .\n",
        [AS.format("as", "FROM", 2)],
    ),
    (
        "\n#\n#\nFROM scratch AS BadStageName\n\n#\n#\nFROM scratch as base2\n\nFROM scratch AS base3\n",
        [
            "StageNameCasing: Stage name 'BadStageName' should be lowercase (line 4)",
            AS.format("as", "FROM", 8),
        ],
    ),
    ("\n#\n#\nfrom scratch AS base\n\nfrom scratch as base2\n", [AS.format("AS", "from", 4)]),
    (
        "\nFROM scratch\n#\nCOPY Dockerfile \\\n\n.\nCOPY Dockerfile \\\n.\n",
        ["NoEmptyContinuation: Empty continuation line (line 6)"],
    ),
    ("\n#\n#\nFrom scratch as base\nFROM scratch AS base2\n", [CASING.format("From", "uppercase", 4)]),
    (
        "\nFROM scratch\n#\ncopy Dockerfile /foo\nCOPY Dockerfile /bar\n",
        [CASING.format("copy", "uppercase", 4)],
    ),
    ("\n#\n#\nfrOM scratch as base\nfrom scratch as base2\n", [CASING.format("frOM", "lowercase", 4)]),
    (
        "\nfrom scratch\n#\nCOPY Dockerfile /foo\ncopy Dockerfile /bar\n",
        [CASING.format("COPY", "lowercase", 4)],
    ),
    (
        "\n#\n#\nfrom scratch\nCOPY a /foo\nCOPY a /bar\nCOPY a /baz\n",
        [CASING.format("from", "uppercase", 4)],
    ),
    ("\nfrom scratch\ncopy Dockerfile /foo\ncopy Dockerfile /bar\n", []),
    (
        "\nFROM scratch AS b\nFROM scratch AS b\n",
        ['DuplicateStageName: Duplicate stage name "b", stage names should be unique (line 3)'],
    ),
    (
        "\nFROM scratch AS scratch\nFROM scratch AS context\n",
        [
            f'ReservedStageName: Stage name should not use the same name as reserved stage "{name}" (line {line})'
            for name, line in (("scratch", 2), ("context", 3))
        ],
    ),
    ("\nFROM scratch\nFROM scratch AS a\n", []),
    ("\nFROM scratch\nCMD mycommand\n", [JSON.format("CMD")]),
    ("\nFROM scratch\nENTRYPOINT mycommand\n", [JSON.format("ENTRYPOINT")]),
    ('\nFROM scratch\nSHELL ["/usr/bin/customshell"]\nCMD mycommand\n', []),
    ('\nFROM scratch AS base\nSHELL ["/usr/bin/customshell"]\n\nFROM base\nENTRYPOINT mycommand\n', []),
    ("\nFROM scratch\n# check=skip=JSONArgsRecommended\nCMD mycommand\n", []),
    (
        "\nFROM scratch\nMAINTAINER me@example.org\n",
        ["MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 3)"],
    ),
    ("\nFROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER me@example.org\n", []),
    ("\nARG base=scratch\nFROM $base\nCOPY Dockerfile .\n", []),
    ("\nARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n", []),
    ("\nFROM --platform=$BUILDPLATFORM scratch\nCOPY Dockerfile .\n", []),
    ("\nARG DEBUG\nFROM scratch${DEBUG}\nCOPY Dockerfile .\n", []),
    ("\nARG DEBUG\nFROM scra${DEBUG:-tch}\nCOPY Dockerfile .\n", []),
    ('\nARG DEBUG=""\nFROM scratch${DEBUG-@bogus}\nCOPY Dockerfile .\n', []),
    (
        "\nARG tag=latest\nFROM busybox:${tag}${version} AS b\nCOPY Dockerfile .\n",
        [NOT_DECLARED.format("version", "", 3)],
    ),
    (
        "\nFROM scratch\nWORKDIR app/\n",
        [
            'WorkdirRelativePath: Relative workdir "app/" can have unexpected results if the base image changes'
            " (line 3)"
        ],
    ),
    ("\nFROM scratch AS a\nWORKDIR /app\n\nFROM a AS b\nWORKDIR subdir/\n", []),
    ("\nFROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n", []),
    ("\nFROM scratch AS base\nARG foo=Dockerfile\n\nFROM base\nCOPY $foo .\n", []),
    ("\nFROM scratch\nRUN echo $PATH $whatever\n", []),
    ("\nFROM scratch\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n", [UNDEFINED.format("foo", "", 3)]),
    (
        "\nFROM scratch\nARG DIR_BINARIES=b/\nARG DIR_ASSETS=a/\nARG DIR_CONFIG=c/\nCOPY $DIR_ASSET .\n",
        [UNDEFINED.format("DIR_ASSET", " (did you mean $DIR_ASSETS?)", 6)],
    ),
    (
        "\nFROM scratch\nENV PATH=$PAHT:/tmp/bin\n",
        [UNDEFINED.format("PAHT", " (did you mean $PATH?)", 3)],
    ),
    (
        "\nFROM scratch AS first\nCOPY $foo .\n\nFROM scratch AS second\nCOPY $bar .\n",
        [UNDEFINED.format("foo", "", 3), UNDEFINED.format("bar", "", 6)],
    ),
    (
        '\nFROM scratch\nENTRYPOINT ["/a"]\nENTRYPOINT ["/b"]\nCMD ["/a"]\nCMD ["/b"]\nHEALTHCHECK CMD ["/a"]\n'
        'HEALTHCHECK CMD ["/b"]\n',
        [MULTIPLE.format("ENTRYPOINT", 3), MULTIPLE.format("CMD", 5), MULTIPLE.format("HEALTHCHECK", 7)],
    ),
    ('\nFROM scratch AS a\nENTRYPOINT ["/a"]\nCMD ["/a"]\nFROM a AS b\nENTRYPOINT ["/b"]\nCMD ["/b"]\n', []),
    (
        "\nFROM scratch\nENV testkey value\nLABEL key value\n",
        [LEGACY.format("ENV", 3), LEGACY.format("LABEL", 4)],
    ),
    ("\nFROM scratch\nENV testkey=value\nLABEL key=value\n", []),
    ("\nFROM scratch\n# check=skip=LegacyKeyValueFormat\nENV testkey value\n", []),
    ("\nFROM --platform=$TARGETPLATFORM scratch\n", [REDUNDANT.format("$TARGETPLATFORM")]),
    ("\nFROM --platform=${TARGETPLATFORM} scratch\n", [REDUNDANT.format("${TARGETPLATFORM}")]),
    ("\n# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM scratch\n", []),
    (
        "\nFROM --platform=linux/amd64 scratch\n",
        [
            "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "
            '"linux/amd64" (line 2)'
        ],
    ),
    ("\nFROM --platform=linux/amd64 scratch AS my_amd64_stage\n", []),
    ("\nFROM --platform=linux/amd64 scratch AS linux\n", []),
    (
        "\nFROM scratch\nEXPOSE 80/TcP 8080/TCP 8080/udp\n",
        [PROTOCOL.format("80/TcP"), PROTOCOL.format("8080/TCP")],
    ),
    (
        "\nFROM scratch\nEXPOSE 127.0.0.1:80:80 [::1]:8080:8080 5000:5000 8000\n",
        [EXPOSE.format("127.0.0.1:80:80"), EXPOSE.format("5000:5000"), EXPOSE.format("[::1]:8080:8080")],
    ),
    (
        "# check=skip=InvalidDefinitionDescription\n\nFROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\n"
        "ENV password=bar secret=baz\nARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\n"
        "ENV git_key=\nENV PUBLIC_KEY=\nARG public_token\nARG SECRET_PASSPHRASE_FILE\n"
        "ENV password_file=bar secret_File=baz\nARG AUTH_MODULE_VERSION\n"
        "# check=skip=SecretsUsedInArgOrEnv // allow\nENV password=bar\n"
        "# check=skip=SecretsUsedInArgOrEnv // allow\nARG password\n# check=skip=all // here\n"
        "ENV alternate_password=bar\n# check=skip=all // here\nARG alternate_password\n",
        [
            SECRET.format("ARG", "SECRET_PASSPHRASE", 4),
            SECRET.format("ENV", "SUPER_Secret", 5),
            SECRET.format("ENV", "password", 6),
            SECRET.format("ENV", "secret", 6),
            SECRET.format("ARG", "auth", 7),
            SECRET.format("ARG", "super_duper_secret_token", 7),
            SECRET.format("ENV", "apikey", 8),
            SECRET.format("ENV", "git_key", 9),
        ],
    ),
    (
        "# check=skip=all;experimental=InvalidDefinitionDescription\n# foo this is the foo\nARG foo=bar\n\n"
        "# base this is the base image\nFROM scratch AS base\n\n# version this is the version number\n"
        "ARG version=latest\n\n# baz this is the baz\nARG foo=baz bar=qux baz=quux\n#\nARG bit=bat\n\n"
        "# comment for something other than ARG or FROM\nCOPY Dockerfile .\n",
        [],
    ),
    (
        "# check=experimental=InvalidDefinitionDescription\n# bar this is the bar\nARG foo=bar\n"
        "# BasE this is the BasE image\nFROM scratch AS base\n# definitely a bad comment\nARG version=latest\n"
        "# definitely a bad comment\nARG foo=baz bar=qux baz=quux\n",
        [
            COMMENT.format("ARG", "foo", 3),
            COMMENT.format("FROM", "base", 5),
            COMMENT.format("ARG", "version", 7),
            COMMENT.format("ARG", "<arg_key>", 9),
        ],
    ),
]


@pytest.mark.parametrize(("text", "wanted"), CASES)
def test_what_buildkit_finds(text: str, wanted: list[str]) -> None:
    result = lint(text)
    assert result.error is None
    assert rows(result) == wanted


@pytest.mark.parametrize(
    ("text", "given", "wanted"),
    [
        (
            "\nARG VERSION\nFROM busybox:$VERSION\n",
            {"VERSION": "latest"},
            [DEFAULT.format("busybox:$VERSION")],
        ),
        ("\nARG IMAGE\nFROM $IMAGE\n", {"IMAGE": "busybox:latest"}, [DEFAULT.format("$IMAGE")]),
        ('\nARG SFX="box:"\nFROM busy${SFX}\n', {"SFX": "box:latest"}, [DEFAULT.format("busy${SFX}")]),
        ('\nARG VERSION="latest"\nFROM busybox:${VERSION}\n', {"VERSION": "latest"}, []),
        ('\nARG VARIANT=""\nFROM busybox:stable${VARIANT}\n', {"VARIANT": "-musl"}, []),
        ("\nARG VARIANT\nFROM busybox:stable${VARIANT}\n", {"VARIANT": "-musl"}, []),
    ],
)
def test_a_default_with_which_there_is_no_image(text: str, given: dict[str, str], wanted: list[str]) -> None:
    assert rows(lint(text, options=LintOptions(build_args=given))) == wanted


IGNORED = 'CopyIgnoredFile: Attempting to {} file "{}" that is excluded by .dockerignore (line {})'


@pytest.mark.parametrize(
    ("text", "patterns", "wanted"),
    [
        (
            "\nFROM scratch\nCOPY Dockerfile .\nADD Dockerfile /windy\n",
            "Dockerfile\n",
            [IGNORED.format("Copy", "Dockerfile", 3), IGNORED.format("Add", "Dockerfile", 4)],
        ),
        ("# check=skip=CopyIgnoredFile\n\nFROM scratch\nCOPY Dockerfile .\n", "Dockerfile\n", []),
        ("FROM scratch AS base\nCOPY a /foobar\nFROM base\nCOPY --from=base /foobar /b\n", "foobar\n", []),
        ("FROM scratch\nCOPY ./Dockerfile .\n", "**\n!Dockerfile\n", []),
        ("FROM scratch\nCOPY . .\n", ".*\n", []),
        ("\nFROM scratch\nCOPY . .\n", "*\n", [IGNORED.format("Copy", ".", 3)]),
        ("FROM scratch\nADD https://example.org/a /\n", "*\n", []),
    ],
)
def test_files_that_are_left_out_of_the_context(text: str, patterns: str, wanted: list[str]) -> None:
    result = lint(text, options=LintOptions(ignore=ignore.parse(patterns)))
    assert rows(result) == wanted


def test_the_platform_of_a_base_image() -> None:
    base = {"os": "linux", "architecture": "arm64", "variant": "v8", "config": {}}
    options = LintOptions(bases={"app": base}, platform="linux/amd64")
    assert rows(lint("\nFROM app\nENV a=b\n", options=options)) == [
        'InvalidBaseImagePlatform: Base image app was pulled with platform "linux/arm64/v8", expected "linux/amd64" '
        "for current build (line 2)"
    ]
    assert (
        rows(
            lint("FROM --platform=$P app\n", options=LintOptions(bases={"app": base}, build_args={"P": "x"}))
        )
        != []
    )
    assert rows(lint("FROM app\n", options=LintOptions(bases={"app": base}, platform="linux/arm64"))) == []


def test_what_is_found_before_an_instruction_that_can_not_be_read() -> None:
    result = lint("\nFROM scratch AS BadStageName\nMAINTAINER me@example.org\nBADCMD\n")
    assert rows(result) == [
        "StageNameCasing: Stage name 'BadStageName' should be lowercase (line 2)",
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 3)",
    ]
    assert result.error is not None and result.error.where is not None and result.error.where.start == 4
    assert "BADCMD" in result.error.what


def test_an_argument_that_is_misspelt_in_from() -> None:
    result = lint("\nFROM --platform=$BULIDPLATFORM scratch\nCOPY Dockerfile .\n")
    assert rows(result)[0] == NOT_DECLARED.format("BULIDPLATFORM", " (did you mean BUILDPLATFORM?)", 2)
    result = lint("\nARG MY_OS=linux\nARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox\n")
    assert rows(result)[0] == NOT_DECLARED.format("MYARCH", " (did you mean MY_ARCH?)", 4)


def test_only_the_stages_that_a_target_needs_are_checked_for_a_build() -> None:
    text = "FROM scratch AS a\n\nFROM a AS b\nENV x=$y\n\nFROM a AS c\n"
    assert rows(lint(text)) == [UNDEFINED.format("y", "", 4)]
    assert rows(lint(text, options=LintOptions(all_stages=False))) == []
    assert rows(lint(text, options=LintOptions(target="b"))) == [UNDEFINED.format("y", "", 4)]
    assert rows(lint(text, options=LintOptions(target="c"))) == []


def test_variables_of_a_base_image_that_is_not_known() -> None:
    """They may be anything, but for those that the stage declares later, and misspelt ones."""
    text = "FROM python\nARG NODE_VERSION=1\nENV a=$PYTHON_VERSION b=$NODE_VERSIO c=$late\nARG late\n"
    assert rows(lint(text)) == [
        UNDEFINED.format("NODE_VERSIO", " (did you mean $NODE_VERSION?)", 3),
        UNDEFINED.format("late", "", 3),
    ]
    known = LintOptions(bases={"python": {"config": {"Env": ["PYTHON_VERSION=3.12"]}}})
    assert rows(lint(text, options=known)) == rows(lint(text))
    unset = LintOptions(bases={"python": {"config": {"Env": []}}})
    assert UNDEFINED.format("PYTHON_VERSION", "", 3) in rows(lint(text, options=unset))


def test_a_base_image_brings_its_shell_its_directory_and_its_triggers() -> None:
    config = {"Shell": ["/bin/bash", "-c"], "WorkingDir": "/srv", "OnBuild": ["ENV x=$nothing"]}
    options = LintOptions(bases={"app": {"config": config}})
    result = lint("FROM app\nWORKDIR data\nCMD run\n", options=options)
    assert [(item.rule, item.where.start) for item in result.findings] == [
        ("UndefinedVar", 1),
        ("WorkdirRelativePath", 2),
    ]
    fix = result.findings[1].fix
    assert fix is not None and fix.edits[0].text == "/srv/data"


def test_the_rules_are_buildkit_s_with_their_addresses() -> None:
    names = [rule for rule in RULES.values() if not rule.own]
    assert len(names) == 22
    assert (
        RULES["JSONArgsRecommended"].url
        == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    )
    assert (
        RULES["UndefinedArgInFrom"].url == "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/"
    )
    assert [rule.name for rule in names if rule.experimental] == ["InvalidDefinitionDescription"]
