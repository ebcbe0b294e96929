"""What findings look like: as text, in BuildKit's JSON, in SARIF, and for GitHub."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonschema
import pytest

from buildfront.dockerfile.lint import LintOptions, lint
from buildfront.dockerfile.lint.render_json import github_annotations, lint_json, sarif
from buildfront.dockerfile.lint.render_text import count_text, error_text, excerpt, findings_text
from buildfront.errors import BuildError, SourceRange

TEXT = "FROM scratch as base\nENV a b \\\n  c\nCOPY x /\ncopy y /\n"
PLAIN = """
WARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/
'as' and 'FROM' keywords' casing do not match
Dockerfile:1
--------------------
   1 | >>> FROM scratch as base
   2 |     ENV a b \\
   3 |       c
--------------------

WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/
"ENV key=value" should be used instead of legacy "ENV key value" format
Dockerfile:2
--------------------
   1 |     FROM scratch as base
   2 | >>> ENV a b \\
   3 | >>>   c
   4 |     COPY x /
--------------------

WARNING: ConsistentInstructionCasing - https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/
Command 'copy' should match the case of the command majority (uppercase)
Dockerfile:5
--------------------
   3 |       c
   4 |     COPY x /
   5 | >>> copy y /
   6 |    ~
--------------------
""".replace("~", " ")


def test_text_as_buildx_prints_it() -> None:
    found = lint(TEXT).findings
    assert findings_text(found, TEXT, full=False) == PLAIN
    assert count_text(3) == "Check complete, 3 warnings have been found!"
    assert count_text(1) == "Check complete, 1 warning has been found!"
    assert count_text(0) == "Check complete, no warnings found."


def test_text_with_the_reason_and_the_mended_line() -> None:
    text = "FROM scratch\nRUN a \\\n\n b\n"
    shown = findings_text(lint(text).findings, text, full=True)
    assert "why: An empty line looks like the end" in shown
    assert "mend: Remove the empty line" in shown and "--fix:  b\n" in shown
    unsafe = "FROM scratch\nCMD a\n"
    assert '--fix=unsafe: CMD ["a"]\n' in findings_text(lint(unsafe).findings, unsafe, full=True)


@pytest.mark.parametrize(
    ("start", "end", "numbers"),
    [
        (1, 1, [1, 2, 3]),
        (5, 5, [3, 4, 5, 6, 7]),
        (9, 9, [7, 8, 9]),
        (4, 6, [3, 4, 5, 6, 7]),
        (1, 9, [*range(1, 10)]),
    ],
)
def test_the_lines_around_a_place(start: int, end: int, numbers: list[int]) -> None:
    shown = excerpt([f"line {number}" for number in range(1, 10)], SourceRange("D", start, end)).split("\n")
    assert [int(line.split("|")[0]) for line in shown[2:-1]] == numbers
    assert sum(">>>" in line for line in shown) == end - start + 1


def test_text_that_would_control_the_terminal_is_made_visible() -> None:
    text = "FROM scratch AS base\nWORKDIR a\x1b[2Jb\n"
    shown = findings_text(lint(text).findings, text, full=True)
    assert "\x1b" not in shown and "\\x1b" in shown
    error = BuildError("bad \x1b", where=SourceRange("D", 2, 2))
    assert "\x1b" not in error_text(error, text)


def test_buildkit_s_json() -> None:
    value = lint_json(lint(TEXT).findings, None, TEXT, "Dockerfile", full=False)
    assert value["warnings"][0] == {
        "ruleName": "FromAsCasing",
        "description": "The 'as' keyword should match the case of the 'from' keyword",
        "url": "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
        "detail": "'as' and 'FROM' keywords' casing do not match",
        "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
    }
    legacy = next(item for item in value["warnings"] if item["ruleName"] == "LegacyKeyValueFormat")
    assert [item["start"]["line"] for item in legacy["location"]["ranges"]] == [2, 3]
    (source,) = value["sources"]
    assert (source["filename"], source["language"]) == ("Dockerfile", "Dockerfile")
    assert base64.b64decode(source["data"]).decode() == TEXT
    assert "buildError" not in value


def test_json_of_an_error_and_of_bytes_that_are_not_utf_8() -> None:
    text = "FROM scratch\n# \udcff\nWHAT\n"
    result = lint(text)
    value = lint_json(result.findings, result.error, text, "Dockerfile", full=True)
    assert value["buildError"]["location"]["ranges"] == [{"start": {"line": 3}, "end": {"line": 3}}]
    json.dumps(value, ensure_ascii=False).encode()
    assert base64.b64decode(value["sources"][0]["data"]) == b"FROM scratch\n# \xff\nWHAT\n"


def test_json_has_the_fix_and_the_column() -> None:
    text = "FROM a:1\nRUN x; sudo y\n"
    found = lint(text, options=LintOptions(enable=frozenset({"buildfront/all"}))).findings
    values = lint_json(found, None, text, "D", full=True)["warnings"]
    sudo = next(item for item in values if item["ruleName"] == "buildfront/Sudo")
    assert (sudo["column"], sudo["level"]) == (8, "warning") and sudo["why"] and "url" not in sudo
    casing = lint_json(lint(TEXT).findings, None, TEXT, "D", full=True)["warnings"][0]
    edit = {"start": {"line": 1, "column": 14}, "end": {"line": 1, "column": 16}, "text": "AS"}
    assert casing["fix"] == {"safe": True, "edits": [edit]}


_PLACE = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "pattern": "^[A-Za-z0-9/~+@._%-]+$"}},
                },
                "region": {
                    "type": "object",
                    "required": ["startLine"],
                    "additionalProperties": False,
                    "properties": {
                        name: {"type": "integer", "minimum": 1}
                        for name in ("startLine", "endLine", "startColumn", "endColumn")
                    },
                },
            },
        }
    },
}
_MESSAGE = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
    "additionalProperties": False,
}
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "shortDescription": _MESSAGE,
                                                "fullDescription": _MESSAGE,
                                                "help": _MESSAGE,
                                                "helpUri": {"type": "string", "pattern": "^https://"},
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "artifacts": {"type": "array"},
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "locations", "ruleId"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": _MESSAGE,
                                "locations": {"type": "array", "items": _PLACE},
                                "fixes": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["artifactChanges"],
                                        "properties": {
                                            "artifactChanges": {
                                                "type": "array",
                                                "minItems": 1,
                                                "items": {
                                                    "type": "object",
                                                    "required": ["artifactLocation", "replacements"],
                                                    "properties": {
                                                        "replacements": {
                                                            "type": "array",
                                                            "minItems": 1,
                                                            "items": {
                                                                "type": "object",
                                                                "required": ["deletedRegion"],
                                                            },
                                                        }
                                                    },
                                                },
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The parts of SARIF 2.1.0's schema that these logs use, with what it requires of them."""


@pytest.mark.parametrize(
    "text", [TEXT, "FROM scratch\n", "FROM scratch as a\nWHAT\n", "FROM a\nRUN sudo x | y\n"]
)
def test_sarif_is_valid(text: str) -> None:
    result = lint(text, options=LintOptions(enable=frozenset({"buildfront/all"})))
    value = sarif(result.findings, result.error, text, "dir with blank/Dockerfile")
    jsonschema.validate(value, SARIF)
    (run,) = value["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len(run["results"]) == len(result.findings) + (result.error is not None)
    for item in run["results"]:
        assert rules[item["ruleIndex"]]["id"] == item["ruleId"]
        place = item["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "dir%20with%20blank/Dockerfile"


def test_a_fix_in_sarif() -> None:
    value = sarif(lint(TEXT).findings, None, TEXT, "Dockerfile")
    fix = value["runs"][0]["results"][0]["fixes"][0]
    assert fix["artifactChanges"][0]["replacements"] == [
        {
            "deletedRegion": {"startLine": 1, "startColumn": 14, "endLine": 1, "endColumn": 16},
            "insertedContent": {"text": "AS"},
        }
    ]


def test_commands_for_github() -> None:
    result = lint("# check=error=true\n" + TEXT + "WHAT\n")
    error = BuildError("50% of a:b,\nno", where=SourceRange("D", 3, 3))
    lines = list(github_annotations(result.findings, error, "a:b,c/Dockerfile"))
    assert lines == [
        "::error file=a%3Ab%2Cc/Dockerfile,line=2,endLine=2,title=FromAsCasing::"
        "'as' and 'FROM' keywords' casing do not match",
        "::error file=a%3Ab%2Cc/Dockerfile,line=3,endLine=3,title=BuildError::50%25 of a:b,%0Ano",
    ]


def test_a_command_for_github_is_one_line_and_controls_nothing() -> None:
    text = "::error::no\r\n::stop-commands::x\x1b[2J\x85\u2028\u202e\udcff%0A ä"
    error = BuildError(text, where=SourceRange("D", 1, 1))
    (line,) = github_annotations((), error, "a\n::b\x1b/D")
    assert line == (
        "::error file=a%0A%3A%3Ab\\x1b/D,line=1,endLine=1,title=BuildError::"
        r"::error::no%0D%0A::stop-commands::x\x1b[2J\x85\u2028\u202e\xff%250A ä"
    )


def test_several_mistakes_are_told_at_once() -> None:
    text = "FROM scratch\nWHAT\nCOPY --form=a b /\n"
    result = lint(text)
    assert result.error is not None and result.error.others
    count = 1 + len(result.error.others)
    assert error_text(result.error, text).count("Dockerfile:") == count
    assert len(list(github_annotations((), result.error, "D"))) == count
    log = sarif((), result.error, text, "D")
    jsonschema.validate(log, SARIF)
    assert len(log["runs"][0]["results"]) == count
    assert "buildErrors" not in lint_json((), result.error, text, "D", full=False)
    assert len(lint_json((), result.error, text, "D", full=True)["buildErrors"]) == count - 1
