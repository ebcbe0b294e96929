"""The rules about COPY and ADD, and about secrets anywhere."""

from __future__ import annotations

import posixpath
import re

from ...errors import BuildError
from ..ignore import has_wildcard
from ..instructions import Copy, Instruction, Run
from ..pattern import Pattern
from .check_settings import CheckSettings
from .collected import Report
from .findings import Fix
from .lint_options import LintOptions
from .package_rules import pip_arguments
from .rules import OWN
from .run_script import RunScript
from .script import ShellCommand
from .secrets import find_token, is_secret_file
from .source_text import SourceText
from .stage_state import Scope
from .stages import expand

_ARCHIVE = re.compile(r"\.(?:tar|tgz|tbz2?|txz|tzst|tlz|gz|bz2|xz|zst|lzma|Z)$", re.IGNORECASE)
_REMOTE = ("http://", "https://", "git@", "git://", "ssh://")
_MOST_SHOWN = 3
_INSTALLERS = {
    "npm": ("ci", "install", "i"),
    "yarn": ("", "install"),
    "pnpm": ("install", "i"),
    "bundle": ("install",),
    "composer": ("install",),
    "poetry": ("install",),
    "uv": ("sync",),
    "cargo": ("fetch",),
    "dotnet": ("restore",),
}
_LISTS = {
    "pip": "requirements.txt",
    "npm": "package.json and package-lock.json",
    "yarn": "package.json and yarn.lock",
    "pnpm": "package.json and pnpm-lock.yaml",
    "bundle": "Gemfile and Gemfile.lock",
    "composer": "composer.json and composer.lock",
    "poetry": "pyproject.toml and poetry.lock",
    "uv": "pyproject.toml and uv.lock",
    "cargo": "Cargo.toml and Cargo.lock",
    "dotnet": "the project files",
    "go": "go.mod and go.sum",
}


class CopyRules:
    """Reads the instructions of one stage in order."""

    def __init__(self, options: LintOptions, source: SourceText, report: Report) -> None:
        self._options, self._source, self._report = options, source, report
        self._whole: tuple[Copy, CheckSettings] | None = None
        self._installed: set[str] = set()
        self._secrets = [name for name in options.files or () if is_secret_file(name)]

    def copy(self, item: Copy, scope: Scope, settings: CheckSettings) -> None:
        """Check one COPY or ADD."""
        sources = [expand(text, scope.env, item)[0] for text in item.sources]
        if item.add:
            self._add(item, sources, settings)
        if item.from_:
            return
        local = [path for path in sources if not path.startswith(_REMOTE)]
        if any(posixpath.normpath(path) in (".", "/") for path in local if path) and self._whole is None:
            self._whole = item, settings
        if self._report.on(OWN + "SecretInLayer", settings):
            self._secret_files(item, local, settings)

    def _add(self, item: Copy, sources: list[str], settings: CheckSettings) -> None:
        plain = item.checksum == "" and item.unpack is None and item.keep_git_dir is None
        if not plain or any(
            path.startswith(_REMOTE) or _ARCHIVE.search(path) or has_wildcard(path) or path.endswith(".git")
            for path in sources
        ):
            return
        joined = self._source.joined(item)
        keyword = next(joined.words(), None)
        fix = None
        if keyword is not None:
            edit = joined.edit(keyword.start, keyword.end, "copy" if keyword.text.islower() else "COPY")
            fix = Fix((edit,), safe=False) if edit else None
        self._report.add(
            OWN + "AddForCopy", "use COPY, which does the same here", item.source, settings=settings, fix=fix
        )

    def _secret_files(self, item: Copy, sources: list[str], settings: CheckSettings) -> None:
        ignore = self._options.ignore
        found: list[str] = []
        for text in sources:
            path = posixpath.normpath(text).lstrip("/") if text else "."
            if is_secret_file(path) and not (ignore is not None and ignore.excludes(path)):
                found.append(path)
            elif path in ("", "."):
                found += self._secrets
            else:
                found += [name for name in self._secrets if _takes(path, name)]
        for name in dict.fromkeys(found[:_MOST_SHOWN]):
            self._report.add(
                OWN + "SecretInLayer",
                f"{name} looks like a secret, and would be in the layer",
                item.source,
                settings=settings,
            )

    def run(self, script: RunScript) -> None:
        """Note the COPY of everything before the dependencies that this RUN installs."""
        for command in script.commands:
            name = installer(command.unwrapped())
            if not name:
                continue
            if self._whole is not None and name not in self._installed:
                item, settings = self._whole
                self._whole = None
                self._report.add(
                    OWN + "CopyBeforeDependencies",
                    f"every change of a file makes {name} install everything again (line "
                    f"{script.where(command).start}{self._cost(script.item)}): copy {_LISTS[name]} first",
                    item.source,
                    settings=settings,
                )
            self._installed.add(name)

    def _cost(self, item: Run) -> str:
        seconds = self._options.seconds.get(item.source.start)
        return f", {seconds:.1f} s the last time" if seconds else ""

    def token(self, item: Instruction, settings: CheckSettings) -> None:
        """Note a token in the text of an instruction."""
        if not self._report.on(OWN + "SecretInLayer", settings):
            return
        lines = self._source.lines(item.source.start, item.source.end)
        found = find_token(lines.text)
        if found is not None:
            start, end, shown = found
            self._report.add(
                OWN + "SecretInLayer",
                f"{shown} looks like a secret, and would be in the image",
                self._source.place(lines.offset(start), lines.offset(end - 1) + 1),
                settings=settings,
            )


def _takes(path: str, name: str) -> bool:
    """Whether a COPY of ``path`` takes the file ``name`` of the context."""
    if not has_wildcard(path):
        return name.startswith(path + "/")
    try:
        return Pattern(path, directories=False).fullmatch(name)
    except BuildError:
        return False  # the build says what is wrong with the pattern


def installer(command: ShellCommand) -> str:
    """Return the name of the program, where the command installs what a list in the context names."""
    words = pip_arguments(command)
    if words and words[0] == "install":
        return "pip" if any(word.startswith(("-r", "--requirement")) for word in words) else ""
    name = command.program
    plain = [word for word in command.arguments if not word.startswith("-")]
    if name == "go":
        return "go" if plain[:2] == ["mod", "download"] else ""
    verbs = _INSTALLERS.get(name, ())
    verb = plain[0] if plain else ""
    return name if verb in verbs and len(plain) < 2 else ""
