"""The stages of a Dockerfile with their FROM read, and the rules about FROM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import BuildError
from .. import words
from ..instructions import Arg, Copy, From, Instruction, Run
from .check_settings import CheckSettings
from .collected import Report
from .findings import Edit, Fix
from .lint_options import LintOptions
from .names import image_name, platform_parts
from .parse_rules import from_words
from .source_text import SourceText

SCRATCH = "scratch"


@dataclass
class LintStage:
    """A stage: what it starts from (``base`` is the number of an earlier stage), and its instructions."""

    index: int
    head: From
    image: str
    platform: str
    base: int | None = None
    body: list[Instruction] = field(default_factory=list)


class Stages:
    """All stages, and the arguments above the first FROM.

    Raises BuildError, with the place, where a FROM can't be read.
    """

    def __init__(
        self,
        items: list[Instruction],
        options: LintOptions,
        source: SourceText,
        settings: Mapping[int, CheckSettings],
        report: Report,
    ) -> None:
        self.options = options
        self._source, self._settings, self._report = source, settings, report
        first = next((at for at, item in enumerate(items) if isinstance(item, From)), len(items))
        self._above = [item for item in items[:first] if isinstance(item, Arg)]
        rest = items[first:]
        heads = [item for item in rest if isinstance(item, From)]
        self.automatic = _automatic(options, heads[-1].name if heads else "")
        self._check_defaults(heads)
        self.globals = self._globals(options.build_args)
        """All that FROM and an ARG without a default see."""
        self.declared = dict.fromkeys(name for item in self._above for name, _ in item.args)
        self.names: dict[str, int] = {}
        self.list: list[LintStage] = []
        for item in rest:
            if isinstance(item, From):
                self._from(item)
            else:
                self.list[-1].body.append(item)

    def _globals(self, given: Mapping[str, str]) -> dict[str, str]:
        out = dict(self.automatic)
        for item in self._above:
            for name, default in item.args:
                if name in given:
                    out[name] = given[name]
                elif default is not None:
                    out[name] = expand(default, out, item)[0]
        return out

    def _check_defaults(self, heads: list[From]) -> None:
        """Note a FROM that is no image's name when no build argument is given."""
        try:
            values = self._globals({})
            for head in heads:
                name, _ = expand(head.image, values, head)
                if image_name(name) is None:
                    self._report.add(
                        "InvalidDefaultArgInFrom",
                        f"Default value for ARG {head.image} results in empty or invalid base image name",
                        head.source,
                    )
        except BuildError:
            return  # it is raised again where the values count

    def _from(self, item: From) -> None:
        settings = self._settings.get(item.source.start)
        image, missing = expand(item.image, self.globals, item)
        self._undeclared(missing, item, settings)
        if not image:
            raise BuildError(
                f"FROM {item.image}: the image's name is empty after its variables were replaced",
                where=item.source,
                hint="give the argument a default, or a value with --build-arg",
            )
        platform = ""
        if item.platform:
            platform, missing = expand(item.platform, self.globals, item)
            self._undeclared(missing, item, settings)
            self._platform(item, platform, missing, settings)
        index = len(self.list)
        base = self.names.get(image)
        if image in self.options.contexts:
            base = None
        self.list.append(LintStage(index, item, image, platform, base))
        if item.name:
            self.names[item.name] = index

    def _undeclared(self, missing: list[str], item: From, settings: CheckSettings | None) -> None:
        for name in missing:
            if name in self.declared or not self._report.on("UndefinedArgInFrom", settings):
                continue
            near = self._report.nearest(name, [*self.declared, *self.globals])
            meant = f" (did you mean {near}?)" if near else ""
            self._report.add(
                "UndefinedArgInFrom",
                f"FROM argument '{name}' is not declared{meant}",
                item.source,
                settings=settings,
                fix=renamed(name, near, item, self._source),
            )

    def _platform(self, item: From, value: str, missing: list[str], settings: CheckSettings | None) -> None:
        matched = words.process(item.platform, self.globals, item.escape).matched
        if matched == {"TARGETPLATFORM"} and not missing and value == self.globals["TARGETPLATFORM"]:
            fix = None
            if "TARGETPLATFORM" not in self.declared and "TARGETPLATFORM" not in self.options.build_args:
                fix = _without_flags(item, self._source)
            self._report.add(
                "RedundantTargetPlatform",
                f"Setting platform to predefined {item.platform} in FROM is redundant as this is the default "
                "behavior",
                item.source,
                settings=settings,
                fix=fix,
            )
        parts = platform_parts(value, self.options.build_platform)
        if matched or missing or parts is None or any(part in item.name for part in parts):
            return
        self._report.add(
            "FromPlatformFlagConstDisallowed",
            f'FROM --platform flag should not use constant value "{value}"',
            item.source,
            settings=settings,
        )

    def find(self, name: str) -> int | None:
        """Return the stage called ``name``, or with this number."""
        if name in self.options.contexts:
            return None
        found = self.names.get(name.lower())
        if found is None and name.isdecimal() and len(name) < 9 and int(name) < len(self.list):
            found = int(name)
        return found

    def checked(self) -> set[int]:
        """Return the numbers of the stages that are looked at: all, or those that the target needs."""
        target = self.find(self.options.target) if self.options.target else len(self.list) - 1
        if (self.options.all_stages and not self.options.target) or target is None:
            return set(range(len(self.list)))
        return self.needed(target)

    def needed(self, target: int) -> set[int]:
        """Return the numbers of a stage and of all that it needs."""
        todo, found = [target], set()
        while todo:
            index = todo.pop()
            if index in found:
                continue
            found.add(index)
            stage = self.list[index]
            names = [self.find(name) for item in stage.body for name in reads(item)]
            todo += [other for other in (stage.base, *names) if other is not None]
        return found


def reads(item: Instruction) -> list[str]:
    """Return the stages, images and contexts that an instruction reads."""
    if isinstance(item, Copy):
        return [item.from_] if item.from_ else []
    return [flag.from_ for flag in item.mounts if flag.from_] if isinstance(item, Run) else []


def expand(text: str, variables: Mapping[str, str], item: Instruction) -> tuple[str, list[str]]:
    """Return the text with its variables replaced, and the names that are not among them. Raises BuildError."""
    try:
        found = words.process(text, variables, item.escape)
    except BuildError as error:
        raise error.at(item.source) from None
    return found.text, sorted(found.unmatched)


def renamed(name: str, near: str, item: Instruction, source: SourceText) -> Fix | None:
    """Return the fix that writes ``near`` for the variable ``name``, where that is in one place only."""
    if not near:
        return None
    joined = source.joined(item)
    for form in (f"${name}", f"${{{name}"):
        at = joined.text.find(form)
        after = joined.text[at + len(form) : at + len(form) + 1]
        if at < 0 or after.isalnum() or after == "_":
            continue
        edit = joined.edit(at, at + len(form), form[: -len(name)] + near)
        return Fix((edit,), safe=False) if edit else None
    return None


def _without_flags(item: From, source: SourceText) -> Fix | None:
    joined = source.joined(item)
    _, flags, rest = from_words(joined)
    if len(flags) != 1 or not rest:
        return None
    edit = joined.edit(flags[0].start, rest[0].start, "")
    return Fix((Edit(*edit),)) if edit else None


def _automatic(options: LintOptions, last: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for side, platform in (("BUILD", options.build_platform), ("TARGET", options.platform)):
        system, architecture, variant = [*platform.split("/"), "", ""][:3]
        out |= {
            f"{side}PLATFORM": platform,
            f"{side}OS": system,
            f"{side}OSVERSION": "",
            f"{side}ARCH": architecture,
            f"{side}VARIANT": variant,
        }
    out["TARGETSTAGE"] = options.target or last or "default"
    return {name: options.build_args.get(name, value) for name, value in out.items()}
