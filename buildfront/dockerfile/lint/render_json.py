"""Findings as JSON values: in the form of BuildKit's subrequest ``frontend.lint``, in SARIF, and for GitHub."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from ...errors import BuildError, SourceRange
from ...text import SURROGATE, visible
from ...version import __version__
from .findings import Edit, LintFinding
from .rules import RULES
from .source_text import SourceText

_BUILD_ERROR = "BuildError"
_LONGEST_ESCAPE = len("\\U0010ffff")
_SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def location(where: SourceRange | None) -> dict[str, Any]:
    """Return a place as BuildKit writes it: a range for each line."""
    if where is None:
        return {"ranges": []}
    lines = range(where.start, max(where.start, where.end) + 1)
    return {"ranges": [{"start": {"line": line}, "end": {"line": line}} for line in lines]}


def source_info(text: str, file: str) -> dict[str, Any]:
    """Return a source as BuildKit writes it."""
    return {"filename": plain(file), "data": encoded(text), "language": "Dockerfile"}


def encoded(text: str) -> str:
    """Return the bytes of a text in base64."""
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")


def plain(text: str) -> str:
    """Return a text that JSON can hold: bytes that are not UTF-8 are replaced."""
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)


def lint_json(
    findings: tuple[LintFinding, ...], error: BuildError | None, text: str, file: str, *, full: bool
) -> dict[str, Any]:
    """Return the findings as BuildKit answers them. ``full`` adds the level, why, the column and the fix."""
    source = SourceText(text, file)
    warnings = []
    for found in findings:
        value: dict[str, Any] = {"ruleName": found.rule, "description": found.description}
        if found.url:
            value["url"] = found.url
        value |= {"detail": plain(found.message), "location": location(found.where)}
        if full:
            value |= {"level": found.level, "why": found.why, "mend": RULES[found.rule].mend}
            if found.where.column:
                value["column"] = found.where.column
            if found.fix is not None:
                edits = [_edit(edit, source) for edit in found.fix.edits]
                value["fix"] = {"safe": found.fix.safe, "edits": edits}
        warnings.append(value)
    out: dict[str, Any] = {"warnings": warnings, "sources": [source_info(text, file)]}
    if error is not None:
        out["buildError"] = {"message": plain(error.what), "location": location(error.where)}
        if full and error.others:
            others = [
                {"message": plain(item.what), "location": location(item.where)} for item in error.others
            ]
            out["buildErrors"] = others
    return out


def _position(offset: int, source: SourceText) -> dict[str, int]:
    place = source.place(offset)
    return {"line": place.start, "column": place.column}


def _edit(edit: Edit, source: SourceText) -> dict[str, Any]:
    return {
        "start": _position(edit.start, source),
        "end": _position(edit.end, source),
        "text": plain(edit.text),
    }


def sarif(
    findings: tuple[LintFinding, ...], error: BuildError | None, text: str, path: str
) -> dict[str, Any]:
    """Return the findings as a log of SARIF 2.1.0. ``path`` is relative to the root of the repository."""
    source = SourceText(text, path)
    used = list(dict.fromkeys(found.rule for found in findings))
    rules = [_sarif_rule(name) for name in used]
    artifact = {"uri": quote(path.encode("utf-8", "surrogateescape"), safe="/~+@")}
    results = [_sarif_result(found, used.index(found.rule), artifact, source) for found in findings]
    if error is not None:
        rules.append({"id": _BUILD_ERROR, "shortDescription": {"text": "The Dockerfile can't be built"}})
    for item in _all(error):
        results.append(
            {
                "ruleId": _BUILD_ERROR,
                "ruleIndex": len(used),
                "level": "error",
                "message": {"text": plain(item.what)},
                "locations": [_sarif_place(item.where or SourceRange(path, 1, 1), artifact)],
            }
        )
    driver = {"name": "buildfront", "version": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": artifact}],
        "results": results,
    }
    return {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _sarif_rule(name: str) -> dict[str, Any]:
    rule = RULES[name]
    out: dict[str, Any] = {
        "id": name,
        "shortDescription": {"text": rule.description},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.why} {rule.mend}"},
    }
    return out | ({"helpUri": rule.url} if rule.url else {})


def _sarif_place(where: SourceRange, artifact: dict[str, str]) -> dict[str, Any]:
    region = {"startLine": where.start, "endLine": max(where.start, where.end)}
    if where.column:
        region["startColumn"] = where.column
    return {"physicalLocation": {"artifactLocation": artifact, "region": region}}


def _sarif_result(
    found: LintFinding, index: int, artifact: dict[str, str], source: SourceText
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "ruleId": found.rule,
        "ruleIndex": index,
        "level": found.level,
        "message": {"text": plain(found.message)},
        "locations": [_sarif_place(found.where, artifact)],
    }
    if found.fix is not None:
        replacements = []
        for edit in found.fix.edits:
            start, end = source.place(edit.start), source.place(edit.end)
            region = {"startLine": start.start, "startColumn": start.column}
            region |= {"endLine": end.start, "endColumn": end.column}
            replacements.append({"deletedRegion": region, "insertedContent": {"text": plain(edit.text)}})
        change = {"artifactLocation": artifact, "replacements": replacements}
        out["fixes"] = [{"description": {"text": RULES[found.rule].mend}, "artifactChanges": [change]}]
    return out


def github_annotations(
    findings: tuple[LintFinding, ...], error: BuildError | None, path: str
) -> Iterator[str]:
    """Return the findings as commands of GitHub's workflows, one a line."""
    for found in findings:
        yield _annotation(found.level, path, found.where, found.rule, found.message)
    for item in _all(error):
        yield _annotation("error", path, item.where, _BUILD_ERROR, item.what)


def _all(error: BuildError | None) -> tuple[BuildError, ...]:
    return () if error is None else (error, *error.others)


def _annotation(level: str, path: str, where: SourceRange | None, title: str, message: str) -> str:
    values: dict[str, object] = {"file": path}
    if where is not None:
        values |= {"line": where.start, "endLine": max(where.start, where.end)}
        if where.column and where.start >= where.end:
            values["col"] = where.column
    values["title"] = title
    shown = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in values.items())
    return f"::{level} {shown}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    """Return a text as a value of a command; it may be long, and nothing in it controls the terminal of a log."""
    text = visible(text, len(text) * _LONGEST_ESCAPE + 1, keep="\t\r\n")
    for char in "%\r\n" + more:
        text = text.replace(char, f"%{ord(char):02X}")
    return text
