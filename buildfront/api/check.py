"""Checking a Dockerfile: rules about its text, with what the store and the context know."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from ..context.directory import Source, open_source
from ..context.rewrite import rewrite
from ..dockerfile import parse
from ..dockerfile.instructions import Run
from ..dockerfile.lint import RULES, LintFinding, LintOptions, lint
from ..dockerfile.lint.findings import ERROR, apply
from ..dockerfile.lint.render_json import github_annotations, lint_json, sarif
from ..dockerfile.lint.render_text import count_text, error_text, findings_text
from ..dockerfile.lint.rules import OWN
from ..errors import BuildError, nearest
from ..graph import GraphOptions, build_graph
from ..options import BuildOptions
from ..store.image_store import Store
from ..store.location import default_root
from ..store.lookup import find, read_image
from .build_findings import lint_options_of
from .graph_options import graph_options_of
from .places import places_of

CHECK_FORMATS = ("text", "json", "sarif", "github")
_ROUNDS = 10
"""How often a text is mended at most: a mend may let another rule find something."""

_MOST_FILES = 20_000
"""The most files of a context that are looked at."""

_MOST_RUNS = 1000
"""The most RUNs whose times are looked up."""

_MOST_LINES = 20_000
"""The longest text, in lines, whose changes are shown in small pieces."""


@dataclass(frozen=True)
class CheckReport:
    """What a check has found.

    Attributes:
        findings: The findings, in the order in which BuildKit reports them.
        error: The error for which the Dockerfile can't be built, None if there is none.
        text: The text of the Dockerfile.
        path: Its path, ``-`` for standard input.
    """

    findings: tuple[LintFinding, ...]
    error: BuildError | None
    text: str = field(repr=False)
    path: str
    _local: bool = field(default=True, repr=False)
    _lint: Callable[[str], tuple[LintFinding, ...]] = field(default=lambda _: (), repr=False, compare=False)

    @property
    def failed(self) -> bool:
        """Whether a finding is an error, or the Dockerfile can't be built."""
        return self.error is not None or any(found.level == ERROR for found in self.findings)

    def render(self, form: str = "text", *, plain: bool = False) -> str:
        """Return the findings as ``text``, ``json``, ``sarif`` or ``github``, each ending with a line break.

        With ``plain``, ``text`` and ``json`` are exactly as docker buildx prints them: ``text`` then lacks the error.

        Raises BuildError for an unknown form.
        """
        if form not in CHECK_FORMATS:
            known = f"known are {', '.join(CHECK_FORMATS)}"
            raise BuildError(f"unknown format {form!r}", hint=known, status=2)
        name = os.path.basename(self.path)
        if form == "json":
            value = lint_json(self.findings, self.error, self.text, name, full=not plain)
            return json.dumps(value, indent=2) + "\n"
        if form == "sarif":
            return json.dumps(sarif(self.findings, self.error, self.text, self.path), indent=2) + "\n"
        if form == "github":
            lines = github_annotations(self.findings, self.error, self.path)
            return "".join(f"{line}\n" for line in lines)
        out = ""
        if self.findings or self.error is None:
            out = count_text(len(self.findings)) + "\n"
        out += findings_text(self.findings, self.text, full=not plain)
        if self.error is not None and not plain:
            out += ("\n" if self.findings else "") + error_text(self.error, self.text)
        return out

    def fixed(self, *, unsafe: bool = False) -> str:
        """Return the text with all fixes made that keep the image as it is, or with ``unsafe`` all that are known."""
        text, found = self.text, self.findings
        for _ in range(_ROUNDS):
            fixes = tuple(item.fix for item in found if item.fix is not None and (unsafe or item.fix.safe))
            mended = apply(text, fixes)
            if mended == text:
                break
            text = mended
            found = self._lint(text)
        return text

    def diff(self, *, unsafe: bool = False) -> str:
        """Return the changes of :meth:`fixed` as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.text, self.fixed(unsafe=unsafe)))
        if max(len(before), len(after)) > _MOST_LINES:
            raise BuildError(f"a Dockerfile of more than {_MOST_LINES} lines: its changes can't be shown")
        shown = (self.path, f"{self.path} (fixed)")
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in difflib.unified_diff(before, after, *shown)
        )

    def write_fixes(self, *, unsafe: bool = False) -> bool:
        """Write the text of :meth:`fixed` into the Dockerfile, and return whether something has changed.

        Raises BuildError where the file is a link, or is not what was checked any more.
        """
        mended = self.fixed(unsafe=unsafe)
        if mended == self.text:
            return False
        if self.path == "-" or not self._local:
            raise BuildError(
                "this Dockerfile is no file that can be changed", hint="show the changes with --diff"
            )
        rewrite(self.path, self.text, mended)
        return True


def check(
    options: BuildOptions,
    *,
    skip: Iterable[str] = (),
    enable: Iterable[str] = (),
    errors: Iterable[str] = (),
) -> CheckReport:
    """Check a Dockerfile and return what was found. Nothing runs, and nothing is fetched.

    All stages are checked, or with ``options.target`` those that it needs. A base image's variables are known if the
    store has the image.

    Args:
        options: The build.
        skip: Rules that are switched off; ``all`` for all that are on by default.
        enable: Rules that are switched on; ``buildfront/all`` for all of buildfront's, ``all`` for all
            that are off by default.
        errors: Rules whose findings are errors; ``all`` for every rule.

    Raises:
        BuildError: There is no Dockerfile, or an option is malformed. A Dockerfile that can't be built is no such
            error: the report has it.
    """
    names = {"--skip": tuple(skip), "--enable": tuple(enable), "--error": tuple(errors)}
    for option, rules in names.items():
        for rule in rules:
            _check_name(option, rule)
    with ExitStack() as stack:
        store, source = open_for_check(options, stack)
        graph_options = graph_options_of(options)
        lint_options = replace(
            lint_options_of(graph_options, KnownImages(store)),
            ignore=source.context.ignore,
            skip=frozenset(names["--skip"]),
            enable=frozenset(names["--enable"]) | {OWN + name for name in names["--enable"] if name == "all"},
            errors=frozenset(names["--error"]),
        )
        lint_options = replace(
            lint_options, files=_files(source, lint_options), seconds=_seconds(source, store, lint_options)
        )
        result = lint(source.text, source.name, lint_options)
        if result.error is None:
            result = replace(result, error=_graph_error(source, graph_options, lint_options.bases))
        return CheckReport(
            result.findings,
            result.error,
            source.text,
            path_of(options, source),
            source.local,
            lambda text: lint(text, source.name, lint_options).findings,
        )


def _check_name(option: str, name: str) -> None:
    if name not in RULES and name not in ("all", OWN + "all"):
        hint = nearest(name, tuple(RULES)) or "docs/check.md lists the rules"
        raise BuildError(f"{option} {name}: there is no such rule", hint=hint, status=2)


def path_of(options: BuildOptions, source: Source) -> str:
    """Return the path of the Dockerfile, as short as it can be given; ``-`` for standard input."""
    if source.name == "-" or not os.path.isdir(options.context):
        return source.name
    if options.dockerfile and os.path.exists(options.dockerfile):
        return options.dockerfile
    return os.path.normpath(os.path.join(options.context, source.name))


def open_for_check(options: BuildOptions, stack: ExitStack) -> tuple[Store | None, Source]:
    """Return the store and the sources. The store is None where there is none yet, and none is needed."""
    store: Store | None = None
    if not os.path.isdir(options.context) or os.path.isdir(options.root or default_root()):
        store = stack.enter_context(Store(options.root))
    places, _ = places_of(options, store, stack)
    return store, open_source(options.context, options.dockerfile, options.ignorefile, places)


class KnownImages(Mapping[str, Mapping[str, Any]]):
    """The configs of the images of a store, read when they are asked for. What can't be read is not known."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._known: dict[str, Mapping[str, Any] | None] = {}

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        """Return the config of an image."""
        if name not in self._known:
            self._known[name] = self._read(name)
        value = self._known[name]
        if value is None:
            raise KeyError(name)
        return value

    def _read(self, name: str) -> Mapping[str, Any] | None:
        if self._store is None or not name or name.startswith("oci-layout://"):
            return None
        try:
            entry = find(self._store, name.removeprefix("docker-image://"), in_dockerfile=True)
            return None if entry is None else read_image(self._store, entry.digest).config.value
        except BuildError:
            return None

    def __iter__(self) -> Iterator[str]:
        """Return the images that were found so far."""
        return (name for name, value in self._known.items() if value is not None)

    def __len__(self) -> int:
        """Return how many images were found so far."""
        return sum(1 for _ in self)


def _seconds(source: Source, store: Store | None, options: LintOptions) -> dict[int, float]:
    """Return how long each RUN took the last time, by its first line, if a rule wants it."""
    if store is None or not _wanted("CopyBeforeDependencies", source, options):
        return {}
    try:
        runs = [item for item in parse(source.text, source.name) if isinstance(item, Run)]
    except BuildError:
        return {}
    out = {}
    for item in runs[:_MOST_RUNS]:
        microseconds = store.catalogue.run_time(json.dumps(item.command.words[-1]))
        if microseconds:
            out[item.source.start] = microseconds / 1e6
    return out


def _wanted(name: str, source: Source, options: LintOptions) -> bool:
    """Whether a rule of buildfront's may be on: the Dockerfile may say so in any line."""
    names = {OWN + "all", OWN + name}
    return bool(names & options.enable) or any(text in source.text for text in names)


def _files(source: Source, options: LintOptions) -> tuple[str, ...] | None:
    """Return the files of the context, if a rule wants them; None for a context with too many."""
    if not _wanted("SecretInLayer", source, options):
        return None
    out: list[str] = []
    top = source.context.path
    seen = 0
    for directory, folders, files in os.walk(top):
        below = os.path.relpath(directory, top)
        prefix = "" if below == "." else below + "/"
        seen += len(files) + len(folders)
        if seen > _MOST_FILES:
            return None
        if source.context.prune:
            folders[:] = [name for name in folders if not source.context.excludes(prefix + name)]
        folders.sort()
        out += [prefix + name for name in sorted(files) if not source.context.excludes(prefix + name)]
    return tuple(out)


def _graph_error(
    source: Source, graph_options: GraphOptions, bases: Mapping[str, Mapping[str, Any]]
) -> BuildError | None:
    """Return the error with which the build of the target would begin."""
    try:
        build_graph(parse(source.text, source.name), graph_options, bases)
    except BuildError as error:
        return error.in_text(source.text)
    return None
