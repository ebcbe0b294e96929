"""The stages of a Dockerfile: their names, what they start from and read, which of them the target needs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..dockerfile import instructions as ast
from ..dockerfile import words
from ..dockerfile.parse import trigger
from ..errors import BuildError, SourceRange, nearest
from ..image import platform as platforms
from ..image import reference as image_reference
from .limits import Budget, refuse_bytes
from .reads import Read, check_circles, check_name, number, reads_of
from .settings import (
    BUILDKIT_ARGS,
    COPY_FROM,
    EPOCH,
    PROXY_ARGS,
    SCRATCH,
    GraphOptions,
    checked_args,
    image_key,
    predefined_args,
)


@dataclass
class RawStage:
    """A FROM with the instructions below it, those of ONBUILD first.

    ``image`` and ``platform`` have their variables replaced. ``base`` is the index of the stage that it starts from.
    ``context`` is the named context that takes the place of the image, or of the whole stage, whose instructions are
    not there then.
    """

    index: int
    head: ast.From
    image: str
    platform: str
    base: int | None = None
    context: str | None = None
    body: list[ast.Instruction] = field(default_factory=list)
    replaced: bool = False


class Wanted(NamedTuple):
    """A base image: its reference, its platform, and the place that asks for it first."""

    reference: str
    platform: str
    where: SourceRange


class Outline:
    """The stages as they are written, before any of them is built.

    ``bases`` are the image configs that are known so far. Raises BuildError, with the place, for a Dockerfile without
    stages, and for a target or a source that does not exist.
    """

    def __init__(
        self,
        instructions: Iterable[ast.Instruction],
        options: GraphOptions,
        budget: Budget,
        bases: Mapping[str, Mapping[str, Any]],
    ) -> None:
        refuse_bytes(options.build_args, "--build-arg")
        refuse_bytes(dict(options.labels), "--label")
        self.options = options
        self.given = checked_args(options.build_args)
        """The build arguments of the command line."""
        self.globals: dict[str, str] = {}
        """The arguments above the first FROM."""
        self.used_args: set[str] = set()
        """The given build arguments that an ARG asks for."""
        self._budget = budget
        self._bases = bases
        all_items = tuple(instructions)
        last = next((item.name for item in reversed(all_items) if isinstance(item, ast.From)), "")
        self.automatic = predefined_args(options, last)
        """The arguments that the Dockerfile reference predefines."""
        self.names: dict[str, int] = {}
        """The stages by name. Of two stages of one name, the last one counts."""
        self.stages = self._split(all_items)
        self.target = self._target()
        self._check_reads()
        self.needed = self._needed()
        """The indexes of the stages that the target needs, in order."""
        self._check_order()

    @property
    def created(self) -> int | None:
        """The time that the image is to have: SOURCE_DATE_EPOCH, as a build argument or an ARG above the first FROM."""
        text = self.given.get(EPOCH) or self.globals.get(EPOCH)
        return int(text) if text else None

    def _split(self, instructions: Iterable[ast.Instruction]) -> list[RawStage]:
        stages: list[RawStage] = []
        for item in instructions:
            try:
                if isinstance(item, ast.From):
                    self.globals = self.globals if stages else checked_args(self.globals)
                    stages.append(self._from(len(stages), item))
                elif stages:
                    if not stages[-1].replaced:
                        stages[-1].body.append(item)
                elif isinstance(item, ast.Arg):
                    self._global_arg(item)
                else:
                    raise BuildError(
                        f"{item.text.split()[0]} stands before the first FROM",
                        hint="only ARG may stand there",
                    )
            except BuildError as error:
                raise error.at(item.source) from None
        if not stages:
            raise BuildError("the Dockerfile has no FROM", hint="start it with FROM IMAGE or FROM scratch")
        return stages

    def _from(self, index: int, item: ast.From) -> RawStage:
        scope = ChainMap(self.globals, self.automatic)
        image = words.expand(item.image, scope, item.escape)
        if not image:
            raise BuildError(
                f"FROM {item.image}: the image's name is empty after its variables were replaced",
                hint="give the argument a default, or a value with --build-arg",
            )
        stage = RawStage(index, item, image, self._platform(item, scope))
        own = self.options.context(item.name) if item.name else None
        if own is not None and own != SCRATCH:
            stage.context, stage.replaced = own, True
        else:
            stage.context = self.options.context(image)
            stage.base = self.names.get(image.lower()) if stage.context is None else None
        if item.name:
            self.names[item.name] = index
        return stage

    def _platform(self, item: ast.From, scope: Mapping[str, str]) -> str:
        if not item.platform:
            return ""
        text = words.expand(item.platform, scope, item.escape)
        if not text:
            raise BuildError(
                f"FROM --platform={item.platform}: the platform is empty after its variables were replaced",
                hint="give the argument a default, or a value with --build-arg",
            )
        try:
            return platforms.normalise(text)
        except BuildError as error:
            raise BuildError(f"FROM --platform={item.platform}: {error.what}", hint=error.hint) from None

    def _global_arg(self, item: ast.Arg) -> None:
        for name, default in item.args:
            if name in self.given:
                self.used_args.add(name)
                self.globals[name] = self.given[name]
            elif default is not None:
                value = words.expand(default, ChainMap(self.globals, self.automatic), item.escape)
                self.globals[name] = value
                self._budget.spend(len(value))

    def _target(self) -> int:
        wanted = self.options.target
        if not wanted:
            return len(self.stages) - 1
        if wanted.lower() in self.names:
            return self.names[wanted.lower()]
        index = number(wanted)
        if index is not None and 0 <= index < len(self.stages):
            return index
        known = [stage.head.name or str(stage.index) for stage in self.stages]
        hint = nearest(wanted, tuple(self.names)) or "known are " + ", ".join(known)
        raise BuildError(f"no stage is called {wanted!r}", hint=hint)

    def _check_reads(self) -> None:
        """Raise BuildError for what no stage can read, needed or not."""
        for stage in self.stages:
            try:
                if stage.base is None and stage.context is None:
                    _check_image(stage.image)
            except BuildError as error:
                raise error.at(stage.head.source) from None
            for read in reads_of(stage.body):
                try:
                    self._check_read(read)
                except BuildError as error:
                    raise error.at(read.item.source) from None
        check_circles([stage.body for stage in self.stages], self._any_stage)

    def _check_read(self, read: Read) -> None:
        check_name(read)
        index = number(read.name)
        known = read.form != COPY_FROM and self.options.context(read.name) is not None
        if index is not None and not known and not 0 <= index < len(self.stages):
            raise BuildError(
                f"{read.form}{read.name}: there is no stage of that number",
                hint=f"the stages have the numbers 0 to {len(self.stages) - 1}",
            )
        if self._any_stage(read) is None and self.options.context(read.name) is None:
            _check_image(read.name)

    def _any_stage(self, read: Read) -> int | None:
        """Return the index of the stage that is read, wherever it is; None for an image or a context."""
        index = number(read.name)
        if read.form == COPY_FROM and index is not None:
            return index if 0 <= index < len(self.stages) else None
        if self.options.context(read.name) is not None:  # it takes the place of a stage of its name
            return None
        if read.name.lower() in self.names:
            return self.names[read.name.lower()]
        return index if index is not None and 0 <= index < len(self.stages) else None

    def _needed(self) -> list[int]:
        todo, found = [self.target], set()
        while todo:
            index = todo.pop()
            if index in found:
                continue
            found.add(index)
            stage = self.stages[index]
            if stage.base is not None:
                todo.append(stage.base)
            if not stage.replaced:
                stage.body[:0] = self._triggers(stage)
            todo += [other for read in reads_of(stage.body) if (other := self._any_stage(read)) is not None]
        return sorted(found)

    def _triggers(self, stage: RawStage) -> list[ast.Instruction]:
        """Return the instructions of the base's ONBUILD. Raises BuildError with the place of FROM."""
        if stage.base is not None:
            texts = [item.trigger for item in self.stages[stage.base].body if isinstance(item, ast.Onbuild)]
        else:
            image = self._bases.get(self.base_key(stage), {})
            texts = list((image.get("config") or {}).get("OnBuild") or ())
        out = []
        for text in texts:
            try:
                item = trigger(text, stage.head.source)
                if isinstance(item, ast.From):
                    raise BuildError(f"the trigger ONBUILD {text!r} is not allowed: FROM begins a stage")
                for read in reads_of([item]):
                    self._check_read(read)
            except BuildError as error:
                raise error.at(stage.head.source) from None
            out.append(item)
        return out

    def _check_order(self) -> None:
        """Raise BuildError for a needed stage that reads one that is not above it."""
        for index in self.needed:
            for read in reads_of(self.stages[index].body):
                try:
                    self.origin_stage(read.name, index, read.form)
                except BuildError as error:
                    raise error.at(read.item.source) from None

    def origin_stage(self, name: str, before: int, form: str = COPY_FROM) -> int | None:
        """Return the index of the stage called ``name``, or None where an image or a context is meant.

        Raises BuildError, which quotes ``form``, for a stage that is not above stage ``before``.
        """
        index = self._any_stage(Read(name, self.stages[before].head, form))
        if index is not None and index >= before:
            raise BuildError(
                f"{form}{name}: that stage comes later",
                hint="a stage can only read stages above it",
            )
        return index

    def reference(self, stage: RawStage) -> str | None:
        """Return the image that a stage starts from; None for another stage, and for the files of a context."""
        if stage.base is not None:
            return None
        if stage.context is not None:
            return self.image(stage.context)
        return stage.image

    def image(self, name: str) -> str | None:
        """Return the image that ``name`` stands for: a named context's, or ``name``; None for a context of files."""
        known = self.options.context(name)
        if known is None:
            return name
        context = self.options.contexts[known]
        if context.kind != "image":
            return None
        return SCRATCH if context.value in (SCRATCH, f"docker-image://{SCRATCH}") else context.value

    def base_key(self, stage: RawStage) -> str:
        """Return the name in a build of the image that a stage starts from; empty where it starts from none."""
        reference = self.reference(stage)
        if reference is None or reference == SCRATCH:
            return reference or ""
        return image_key(reference, stage.platform, self.options.platform)

    def references(self) -> dict[str, Wanted]:
        """Return every image that is needed, with the place that asks for it first."""
        default = self.options.platform
        out: dict[str, Wanted] = {}
        for index in self.needed:
            stage = self.stages[index]
            base = self.reference(stage)
            if base is not None and base != SCRATCH:
                wanted = Wanted(base, stage.platform or default, stage.head.source)
                out.setdefault(self.base_key(stage), wanted)
            for read in reads_of(stage.body):
                if self.origin_stage(read.name, index, read.form) is not None:
                    continue
                image = self.image(read.name)
                if image is not None and image != SCRATCH:
                    out.setdefault(image, Wanted(image, default, read.item.source))
        return out

    def unused_args(self) -> list[str]:
        """Return the given build arguments that no ARG asks for, and that are not for the builder itself."""
        known = PROXY_ARGS.union(self.automatic, BUILDKIT_ARGS)
        return sorted(set(self.options.build_args) - self.used_args - known)


def _check_image(name: str) -> None:
    """Raise BuildError for a name that no image can have. An image's ID is none, and is found in the store."""
    if name.startswith("oci-layout://"):
        raise BuildError(
            f"{name}: a Dockerfile can't name a directory of the machine",
            hint="name the layout with --build-context NAME=oci-layout://PATH, and write FROM NAME",
        )
    if name.removeprefix("sha256:").strip("0123456789abcdef"):
        image_reference.parse(name.removeprefix("docker-image://"))
