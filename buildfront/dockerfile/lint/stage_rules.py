"""BuildKit's rules about the instructions of a stage, which need to know its variables."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from ...errors import BuildError, SourceRange
from .. import arguments, words
from ..instructions import Arg, Copy, Entry, Healthcheck, Instruction, Onbuild, Pairs, Run, Shell, Word, Words
from .check_settings import CheckSettings
from .collected import Report
from .exposed import check_ports
from .findings import Fix
from .source_text import SourceText
from .stage_state import Scope
from .stages import Stages, expand, renamed

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_NOT_VARIABLES = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")
_REMOTE = ("http://", "https://", "git@", "git://", "ssh://")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=@%+,-]+")


class StageRules:
    """Reads the instructions of one stage in order, with all that is on for each of them."""

    def __init__(
        self, stages: Stages, scope: Scope, source: SourceText, report: Report, later: dict[str, int]
    ) -> None:
        self._stages, self.scope, self._source, self._report = stages, scope, source, report
        self._later = later
        self._used_once: dict[str, SourceRange] = {}

    def apply(self, item: Instruction, settings: CheckSettings) -> None:
        """Check one instruction and follow what it does. Raises BuildError where it can't be read."""
        for text in _expanded(item):
            self._undefined(expand(text, self.scope.env, item)[1], item, settings)
        if isinstance(item, Copy):
            self._documents(item, settings)
            self._ignored(item, settings)
        elif isinstance(item, Pairs):
            self._pairs(item, settings)
        elif isinstance(item, Arg):
            self._arg(item, settings)
        elif isinstance(item, Entry):
            self._once(item.kind, item, settings)
            if item.command.shell and not self.scope.shell:
                name = _keyword(item, self._source)
                self._report.add(
                    "JSONArgsRecommended",
                    f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals",
                    item.source,
                    settings=settings,
                    fix=_as_json(item, self._source),
                )
        elif isinstance(item, Healthcheck):
            self._once("HEALTHCHECK", item, settings)
        elif isinstance(item, Shell):
            self.scope.shell = item.words
        elif isinstance(item, Onbuild):
            self.scope.onbuild += (item.trigger,)
        elif isinstance(item, Words) and item.kind == "EXPOSE":
            check_ports(item, self.scope.env, self._source, settings, self._report)
        elif isinstance(item, Word) and item.kind == "WORKDIR":
            self._workdir(item, settings)
        elif isinstance(item, Word) and item.kind == "USER":
            self.scope.user = expand(item.value, self.scope.env, item)[0]

    def _undefined(self, missing: list[str], item: Instruction, settings: CheckSettings) -> None:
        for name in missing:
            if name in self.scope.declared or name in _NOT_VARIABLES:
                continue
            if not self._report.on("UndefinedVar", settings):
                return
            near = self._report.nearest(name, self.scope.env)
            if not self.scope.known and not self._is_certain(name, near, item):
                continue
            meant = f" (did you mean ${near}?)" if near else ""
            self._report.add(
                "UndefinedVar",
                f"Usage of undefined variable '${name}'{meant}",
                item.source,
                settings=settings,
                fix=renamed(name, near, item, self._source),
            )

    def _is_certain(self, name: str, near: str, item: Instruction) -> bool:
        """Whether a name is wrong although the base image, which is not known, might set it.

        So it is where this stage declares it further down, or where it is a misspelling of a name that is known.
        """
        return self._later.get(name, 0) > item.source.start or bool(near and len(name) > 3)

    def _documents(self, item: Copy, settings: CheckSettings) -> None:
        for document in item.documents:
            if document.expand:
                found = words.process(document.content, self.scope.env, plain_quotes=True)
                self._undefined(sorted(found.unmatched), item, settings)

    def _pairs(self, item: Pairs, settings: CheckSettings) -> None:
        env = self.scope.env
        found = [(expand(name, env, item)[0], expand(value, env, item)[0]) for name, value in item.pairs]
        if item.legacy:
            name = _keyword(item, self._source)
            self._report.add(
                "LegacyKeyValueFormat",
                f'"{name} key=value" should be used instead of legacy "{name} key value" format',
                item.source,
                settings=settings,
                fix=_with_equals(item, self._source),
            )
        if item.kind == "ENV":
            for name, value in found:
                self._secret("ENV", name, item, settings)
                self.scope.set(name, value)

    def _secret(self, instruction: str, name: str, item: Instruction, settings: CheckSettings) -> None:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            self._report.add(
                "SecretsUsedInArgOrEnv",
                f'Do not use ARG or ENV instructions for sensitive data ({instruction} "{name}")',
                item.source,
                settings=settings,
            )

    def _arg(self, item: Arg, settings: CheckSettings) -> None:
        given = self._stages.options.build_args
        for name, default in item.args:
            self._secret("ARG", name, item, settings)
            value = self._stages.globals.get(name) if default is None else None
            if name in given:
                value = given[name]
            elif default is not None:
                value, missing = expand(default, self.scope.env, item)
                self._undefined(missing, item, settings)
            if value is not None and name not in _NOT_VARIABLES:
                self.scope.set(name, value)
            self.scope.declared.add(name)

    def _once(self, kind: str, item: Instruction, settings: CheckSettings) -> None:
        before = self._used_once.get(kind)
        if before is not None:
            self._report.add(
                "MultipleInstructionsDisallowed",
                f"Multiple {_keyword(item, self._source)} instructions should not be used in the same stage because "
                "only the last one will be used",
                before,
                settings=settings,
            )
        self._used_once[kind] = item.source

    def _workdir(self, item: Word, settings: CheckSettings) -> None:
        scope = self.scope
        path = expand(item.value, scope.env, item)[0]
        whole = None if scope.cwd is None and not path.startswith("/") else _joined(scope.cwd or "/", path)
        if not scope.workdir_set and not path.startswith("/"):
            self._report.add(
                "WorkdirRelativePath",
                f'Relative workdir "{path}" can have unexpected results if the base image changes',
                item.source,
                settings=settings,
                fix=_whole_path(item, whole, self._source),
            )
        scope.workdir_set = True
        scope.cwd = whole

    def _ignored(self, item: Copy, settings: CheckSettings) -> None:
        ignore = self._stages.options.ignore
        if item.from_ or ignore is None or not ignore.rules or ignore.has_exceptions:
            return
        if not self._report.on("CopyIgnoredFile", settings):
            return
        for text in item.sources:
            path = expand(text, self.scope.env, item)[0]
            if item.add and path.startswith(_REMOTE):
                continue
            path = posixpath.normpath(path) if path else "."
            if path in (".", "/"):
                left_out = any(rule.text in ("*", "**", "**/*") for rule in ignore.rules)
            else:
                left_out = not path.startswith("/") and ignore.excludes(path)
            if left_out:
                name = "Add" if item.add else "Copy"
                self._report.add(
                    "CopyIgnoredFile",
                    f'Attempting to {name} file "{path}" that is excluded by .dockerignore',
                    item.source,
                    settings=settings,
                )


def _expanded(item: Instruction) -> Iterator[str]:
    """Return the texts of an instruction in which variables are replaced, but for ARG and EXPOSE."""
    if isinstance(item, Copy):
        yield from (item.chown, item.chmod)
        if item.add:
            yield item.checksum
        yield from (*item.sources, item.dest)
    elif isinstance(item, Pairs):
        for pair in item.pairs:
            yield from pair
    elif isinstance(item, Run):
        for mount in item.mounts:
            yield from (value for _, value in mount.fields)
    elif isinstance(item, Words) and item.kind == "VOLUME":
        yield from item.values
    elif isinstance(item, Word) and item.kind != "MAINTAINER":
        yield item.value


def _keyword(item: Instruction, source: SourceText) -> str:
    return next((word.text for word in source.joined(item).words()), "")


def _joined(cwd: str, path: str) -> str:
    return "/" + posixpath.normpath(posixpath.join("/", cwd, path)).lstrip("/")


def _whole_path(item: Word, whole: str | None, source: SourceText) -> Fix | None:
    """Return the fix that writes the whole path, where the base image's directory is known."""
    if whole is None or not _PLAIN_WORD.fullmatch(item.value) or not _PLAIN_WORD.fullmatch(whole):
        return None
    joined = source.joined(item)
    found = list(joined.words())
    if len(found) != 2 or found[1].text != item.value:
        return None
    edit = joined.edit(found[1].start, found[1].end, whole)
    return Fix((edit,)) if edit else None


def _with_equals(item: Pairs, source: SourceText) -> Fix | None:
    """Return the fix that writes ``NAME=VALUE``, where the value means the same in that form."""
    joined = source.joined(item)
    found = list(joined.words())
    text = joined.text.rstrip()
    if len(found) < 3 or not item.pairs or found[1].text != item.pairs[0][0]:
        return None
    name, value = found[1], text[found[2].start :]
    if value != item.pairs[0][1] or not _PLAIN_NAME.fullmatch(name.text):
        return None
    if len(found) > 3:
        if any(char in value for char in "\"'`\\"):
            return None
        value = f'"{value}"'
    pair = f"{name.text}={value}"
    edit = joined.edit(name.start, len(text), pair)
    try:
        is_one = arguments.split(pair, item.escape) == [pair]
    except BuildError:
        return None
    return Fix((edit,)) if edit is not None and is_one else None


def _as_json(item: Entry, source: SourceText) -> Fix | None:
    """Return the fix that writes the words as JSON. The program then starts without a shell, so it is not safe."""
    joined = source.joined(item)
    rest = list(joined.words())[1:]
    if not rest or not all(_PLAIN_WORD.fullmatch(word.text) for word in rest):
        return None
    array = ", ".join(f'"{word.text}"' for word in rest)
    edit = joined.edit(rest[0].start, rest[-1].end, f"[{array}]")
    return Fix((edit,), safe=False) if edit else None
