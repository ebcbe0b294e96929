"""The stages of a Dockerfile: their names, what they start from and read, which of them the target needs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..dockerfile import instructions as ast
from ..dockerfile import words
from ..errors import BuildError, SourceRange, nearest
from .limits import Budget, refuse_bytes
from .settings import COPY_FROM, MOUNT_FROM, PROXY_ARGS, SCRATCH, GraphOptions, platform_args

_LONGEST_NUMBER = 9
"""Digits. Python refuses to read a very long number, and no stage has one."""


@dataclass
class RawStage:
    """A FROM with the instructions below it. ``image`` and ``platform`` have their variables replaced."""

    index: int
    head: ast.From
    image: str
    platform: str
    body: list[ast.Instruction] = field(default_factory=list)


class Outline:
    """The stages as they are written, before any of them is built.

    Raises BuildError, with the place, for a Dockerfile without stages, two stages of one name, and a target or a
    source that does not exist.
    """

    def __init__(
        self, instructions: Iterable[ast.Instruction], options: GraphOptions, budget: Budget
    ) -> None:
        refuse_bytes(options.build_args, "--build-arg")
        refuse_bytes(dict(options.labels), "--label")
        self.options = options
        self.automatic = platform_args(options.platform)
        self.globals: dict[str, str] = {}
        """The arguments above the first FROM."""
        self.used_args: set[str] = set()
        """The given build arguments that an ARG asks for."""
        self._budget = budget
        self.stages = self._split(instructions)
        self.names = {stage.head.name: stage.index for stage in self.stages if stage.head.name}
        self.target = self._target()
        self.needed = self._needed()
        """The indexes of the stages that the target needs, in order."""

    def _split(self, instructions: Iterable[ast.Instruction]) -> list[RawStage]:
        stages: list[RawStage] = []
        for item in instructions:
            if isinstance(item, ast.From):
                stages.append(self._from(len(stages), item))
            elif stages:
                stages[-1].body.append(item)
            elif isinstance(item, ast.Arg):
                self._global_arg(item)
            else:
                name = item.text.split()[0]
                raise BuildError(
                    f"{name} stands before the first FROM", where=item.source, hint="only ARG may stand there"
                )
        if not stages:
            raise BuildError("the Dockerfile has no FROM", hint="start it with FROM IMAGE or FROM scratch")
        seen: set[str] = set()
        for stage in stages:
            if stage.head.name and stage.head.name in seen:
                raise BuildError(f"two stages are called {stage.head.name!r}", where=stage.head.source)
            seen.add(stage.head.name)
        return stages

    def _from(self, index: int, item: ast.From) -> RawStage:
        scope = ChainMap(self.globals, self.automatic)
        image = self._expand(item.image, scope, item)
        platform = self._expand(item.platform, scope, item) if item.platform else ""
        if not image:
            raise BuildError(
                f"FROM {item.image}: the image's name is empty after its variables were replaced",
                where=item.source,
                hint="give the argument a default, or a value with --build-arg",
            )
        return RawStage(index, item, image, platform)

    def _global_arg(self, item: ast.Arg) -> None:
        for name, default in item.args:
            if name in self.options.build_args:
                self.used_args.add(name)
                self.globals[name] = self.options.build_args[name]
            elif default is not None:
                value = self._expand(default, ChainMap(self.globals, self.automatic), item)
                self.globals[name] = value
                try:
                    self._budget.spend(len(value))
                except BuildError as error:
                    raise error.at(item.source) from None

    def _expand(self, text: str, variables: Mapping[str, str], item: ast.Instruction) -> str:
        try:
            return words.expand(text, variables, item.escape)
        except BuildError as error:
            raise error.at(item.source) from None

    def _target(self) -> int:
        wanted = self.options.target
        if not wanted:
            return len(self.stages) - 1
        if wanted.lower() in self.names:
            return self.names[wanted.lower()]
        if wanted.isdecimal() and len(wanted) <= _LONGEST_NUMBER and int(wanted) < len(self.stages):
            return int(wanted)
        hint = nearest(wanted, tuple(self.names)) or "known are " + (", ".join(self.names) or "no names")
        raise BuildError(f"no stage is called {wanted!r}", hint=hint)

    def _needed(self) -> list[int]:
        todo, found = [self.target], set()
        while todo:
            index = todo.pop()
            if index in found:
                continue
            found.add(index)
            stage = self.stages[index]
            base = self.base_stage(stage)
            if base is not None:
                todo.append(base)
            for name, item, form in _reads(stage):
                try:
                    other = self.origin_stage(name, index, form)
                except BuildError as error:
                    raise error.at(item.source) from None
                if other is not None:
                    todo.append(other)
        return sorted(found)

    def base_stage(self, stage: RawStage) -> int | None:
        """Return the index of the earlier stage that ``stage`` starts from, or None."""
        if stage.image in self.options.contexts:
            return None
        found = self.names.get(stage.image.lower())
        return found if found is not None and found < stage.index else None

    def origin_stage(self, name: str, before: int, form: str = COPY_FROM) -> int | None:
        """Return the index of the stage called ``name``, or None where an image or a context is meant.

        Raises BuildError, which quotes ``form``, for a stage that is not above stage ``before``.
        """
        if name in self.options.contexts:  # a named context takes the place of a stage of its name
            return None
        if name.lower() in self.names:
            index = self.names[name.lower()]
        elif name.isdecimal():
            index = int(name) if len(name) <= _LONGEST_NUMBER else len(self.stages)
        else:
            return None
        if index >= before:
            raise BuildError(
                f"{form}{name}: that stage comes later or does not exist",
                hint="a stage can only read stages above it",
            )
        return index

    def image(self, name: str) -> str:
        """Return the image that ``name`` stands for: a named context's, or ``name`` itself.

        Raises BuildError for a named context that is a directory.
        """
        context = self.options.contexts.get(name)
        if context is None:
            return name
        if context.kind != "image":
            raise BuildError(
                f"the build context {name!r} is a directory",
                hint="FROM needs an image: oci-layout:// or docker-image://",
            )
        return context.value

    def references(self) -> dict[str, SourceRange]:
        """Return every image that is needed, with the place that asks for it first."""
        out: dict[str, SourceRange] = {}
        for index in self.needed:
            stage = self.stages[index]
            if self.base_stage(stage) is None and stage.image != SCRATCH:
                try:
                    out.setdefault(self.image(stage.image), stage.head.source)
                except BuildError as error:
                    raise error.at(stage.head.source) from None
            for name, item, form in _reads(stage):
                context = self.options.contexts.get(name)
                if self.origin_stage(name, index, form) is not None or (context and context.kind != "image"):
                    continue
                if name != SCRATCH or form != MOUNT_FROM:
                    out.setdefault(self.image(name), item.source)
        return out

    def unused_args(self) -> list[str]:
        """Return the given build arguments that no ARG asks for."""
        from_reference = PROXY_ARGS.union(self.automatic)
        return sorted(set(self.options.build_args) - self.used_args - from_reference)


def _reads(stage: RawStage) -> list[tuple[str, ast.Instruction, str]]:
    """Return the names that a stage's instructions read from, each with its instruction and its form."""
    out: list[tuple[str, ast.Instruction, str]] = []
    for item in stage.body:
        if isinstance(item, ast.Copy) and item.from_:
            out.append((item.from_, item, COPY_FROM))
        elif isinstance(item, ast.Run):
            out += [(flag.from_, item, MOUNT_FROM) for flag in item.mounts if flag.from_]
    return out
