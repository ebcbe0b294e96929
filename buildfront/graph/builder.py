"""Instructions to a StepGraph. Pure: the base images' configs are handed in as data."""

from __future__ import annotations

import copy
import posixpath
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..dockerfile import instructions as ast
from ..dockerfile import words
from ..dockerfile.ignore import literal
from ..dockerfile.parse import refuse_url, trigger
from ..errors import BuildError, SourceRange, nearest
from . import config as fold
from .limits import MOST_STEPS, Budget, refuse_bytes, refuse_null_bytes, whole_characters
from .step_graph import (
    CONTENT,
    CopyOp,
    History,
    Mount,
    Operation,
    Origin,
    RunOp,
    SourceOp,
    Stage,
    Step,
    StepGraph,
    WorkdirOp,
)

PROXY_ARGS = frozenset(
    name
    for base in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (base, base.upper())
)
"""Predefined build arguments that need no ARG and never count for the cache (Dockerfile reference)."""

SCRATCH = "scratch"
MOUNT_FROM = "RUN --mount from="
"""How errors call the place of a name."""


@dataclass(frozen=True)
class NamedContext:
    """``--build-context NAME=...``: ``dir`` (a directory), or ``image`` (a reference or an image layout)."""

    kind: str
    value: str


@dataclass(frozen=True)
class GraphOptions:
    """What of the command line changes the graph. ``platform`` is ``os/arch[/variant]``."""

    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = "linux/amd64"
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()


@dataclass
class _RawStage:
    index: int
    head: ast.From
    image: str
    platform: str
    body: list[ast.Instruction] = field(default_factory=list)


@dataclass
class _Scope:
    """What a stage knows while its instructions are read."""

    config: dict[str, Any]
    env: fold.Environment
    args: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    author: str = ""
    history: list[History] = field(default_factory=list)
    cmd_set: bool = False
    escape: str = "\\"

    def variables(self) -> Mapping[str, str]:
        """The variables, as they stand now and later."""
        return ChainMap(self.env.values, self.args)

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.get("Shell") or fold.DEFAULT_SHELL)


def platform_args(platform: str) -> dict[str, str]:
    """The automatic platform arguments of the Dockerfile reference."""
    system, _, rest = platform.partition("/")
    arch, _, variant = rest.partition("/")
    values = {"": platform, "OS": system, "ARCH": arch, "VARIANT": variant}
    out = {}
    for side in ("TARGET", "BUILD"):
        for suffix, value in values.items():
            out[f"{side}{suffix or 'PLATFORM'}"] = value
    return out


class _Builder:
    def __init__(self, instructions: Iterable[ast.Instruction], options: GraphOptions) -> None:
        self.options = options
        refuse_bytes(options.build_args, "--build-arg")
        refuse_bytes(dict(options.labels), "--label")
        self.automatic = platform_args(options.platform)
        self.globals: dict[str, str] = {}
        self.global_names: set[str] = set()
        self.warnings: list[tuple[SourceRange | None, str]] = []
        self.used_args: set[str] = set()
        self.stage_args: dict[int, dict[str, str]] = {}
        self.operations: dict[Operation, int] = {}
        """The first step with each operation."""
        self.budget = Budget()
        self.stages = self._split(instructions)
        self.names = {stage.head.name: stage.index for stage in self.stages if stage.head.name}
        self.target = self._target()
        self.needed = self._needed()

    # reading the stages

    def _split(self, instructions: Iterable[ast.Instruction]) -> list[_RawStage]:
        stages: list[_RawStage] = []
        for item in instructions:
            if isinstance(item, ast.From):
                scope = ChainMap(self.globals, self.automatic)
                image = self._expand(item.image, scope, item)
                platform = self._expand(item.platform, scope, item) if item.platform else ""
                if not image:
                    raise BuildError(
                        f"FROM {item.image}: the image's name is empty after its variables were replaced",
                        where=item.source,
                        hint="give the argument a default, or a value with --build-arg",
                    )
                stages.append(_RawStage(len(stages), item, image, platform))
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
        seen: dict[str, int] = {}
        for stage in stages:
            if stage.head.name and stage.head.name in seen:
                raise BuildError(f"two stages are called {stage.head.name!r}", where=stage.head.source)
            seen[stage.head.name] = stage.index
        return stages

    def _global_arg(self, item: ast.Arg) -> None:
        for name, default in item.args:
            self.global_names.add(name)
            if name in self.options.build_args:
                self.used_args.add(name)
                self.globals[name] = self.options.build_args[name]
            elif default is not None:
                value = self._expand(default, ChainMap(self.globals, self.automatic), item)
                self.globals[name] = value
                try:
                    self.budget.spend(len(value))
                except BuildError as error:
                    raise error.at(item.source) from None

    def _expand(self, text: str, variables: Mapping[str, str], item: ast.Instruction) -> str:
        try:
            return words.expand(text, variables, item.escape)
        except BuildError as error:
            raise error.at(item.source) from None

    # which stages are needed

    def _target(self) -> int:
        wanted = self.options.target
        if not wanted:
            return len(self.stages) - 1
        if wanted.lower() in self.names:
            return self.names[wanted.lower()]
        if wanted.isdecimal() and len(wanted) < 10 and int(wanted) < len(self.stages):
            return int(wanted)
        hint = nearest(wanted, tuple(self.names)) or "known are " + (", ".join(self.names) or "no names")
        raise BuildError(f"no stage is called {wanted!r}", hint=hint)

    def base_stage(self, stage: _RawStage) -> int | None:
        """The earlier stage that this one starts from, or None."""
        if stage.image in self.options.contexts:
            return None
        found = self.names.get(stage.image.lower())
        return found if found is not None and found < stage.index else None

    def _origin_stage(self, name: str, before: int, what: str = "COPY --from=") -> int | None:
        if name in self.options.contexts:  # a named context is there instead of a stage of its name
            return None
        if name.lower() in self.names:
            index = self.names[name.lower()]
        elif name.isdecimal():
            # Python refuses to read a very long number, and no stage has one.
            index = int(name) if len(name) < 10 else len(self.stages)
        else:
            return None
        if index >= before:
            raise BuildError(
                f"{what}{name}: that stage comes later or does not exist",
                hint="a stage can only read stages above it",
            )
        return index

    def _reads(self, stage: _RawStage) -> list[tuple[str, ast.Instruction, str]]:
        """What a stage's instructions read of other places by name: the name, who, and how it was written."""
        out: list[tuple[str, ast.Instruction, str]] = []
        for item in stage.body:
            if isinstance(item, ast.Copy) and item.from_:
                out.append((item.from_, item, "COPY --from="))
            elif isinstance(item, ast.Run):
                out += [(flag.from_, item, MOUNT_FROM) for flag in item.mounts if flag.from_]
        return out

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
            for name, item, what in self._reads(stage):
                try:
                    other = self._origin_stage(name, index, what)
                except BuildError as error:
                    raise error.at(item.source) from None
                if other is not None:
                    todo.append(other)
        return sorted(found)

    def references(self) -> dict[str, SourceRange]:
        """Every image that is needed, with the place that asks for it first."""
        out: dict[str, SourceRange] = {}
        for index in self.needed:
            stage = self.stages[index]
            if self.base_stage(stage) is None and stage.image != SCRATCH:
                try:
                    out.setdefault(self._image(stage.image), stage.head.source)
                except BuildError as error:
                    raise error.at(stage.head.source) from None
            for name, item, what in self._reads(stage):
                context = self.options.contexts.get(name)
                if self._origin_stage(name, index, what) is not None or (context and context.kind != "image"):
                    continue
                if name != SCRATCH or what != MOUNT_FROM:
                    out.setdefault(self._image(name), item.source)
        return out

    def _image(self, name: str) -> str:
        context = self.options.contexts.get(name)
        if context is None:
            return name
        if context.kind != "image":
            raise BuildError(
                f"the build context {name!r} is a directory",
                hint="FROM needs an image: oci-layout:// or docker-image://",
            )
        return context.value

    # building

    def build(self, bases: Mapping[str, Mapping[str, Any]]) -> StepGraph:
        steps: list[Step] = []
        stages: dict[int, Stage] = {}
        for index in self.needed:
            stages[index] = _StageBuilder(self, self.stages[index], bases, steps, stages).build()
        unused = set(self.options.build_args) - self.used_args - PROXY_ARGS - set(self.automatic)
        for name in sorted(unused):
            self.warnings.append((None, f"the build argument {name} was given but no ARG asks for it"))
        return StepGraph(
            stages=tuple(stages[index] for index in self.needed),
            steps=tuple(steps),
            target=self.target,
            platform=self.options.platform,
            warnings=tuple(self.warnings),
        )


class _StageBuilder:
    def __init__(
        self,
        whole: _Builder,
        raw: _RawStage,
        bases: Mapping[str, Mapping[str, Any]],
        steps: list[Step],
        stages: Mapping[int, Stage],
    ) -> None:
        self.whole = whole
        self.raw = raw
        self.bases = bases
        self.steps = steps
        self.stages = stages
        self.last: int | None = None
        self.first = -1
        self.images: dict[str, int] = {}

    def build(self) -> Stage:
        try:
            scope, base = self._start()
        except BuildError as error:
            raise error.at(self.raw.head.source) from None
        triggers = list(scope.config.pop("OnBuild", None) or [])
        for text in triggers:
            try:
                self._trigger(trigger(text, self.raw.head.source), scope)
            except BuildError as error:
                raise error.at(self.raw.head.source) from None
        for item in self.raw.body:
            try:
                self._apply(item, scope)
            except BuildError as error:
                raise error.at(item.source) from None
        if self.raw.index == self.whole.target and self.whole.options.labels:
            labels = dict(scope.config.get("Labels") or {})
            labels.update(self.whole.options.labels)
            scope.config["Labels"] = labels
        assert self.last is not None
        self.whole.stage_args[self.raw.index] = scope.args
        return Stage(
            index=self.raw.index,
            name=self.raw.head.name,
            base=base,
            first=self.first,
            last=self.last,
            config=scope.config,
            author=scope.author,
            history=tuple(scope.history),
        )

    def _start(self) -> tuple[_Scope, str]:
        base_stage = self.whole.base_stage(self.raw)
        if base_stage is not None:
            earlier = self.stages[base_stage]
            self.last = self.first = earlier.last
            self.whole.budget.spend(len(repr(earlier.config)) + 100 * len(earlier.history))
            config = copy.deepcopy(earlier.config)
            scope = _Scope(
                config,
                fold.Environment(config),
                dict(self.whole.stage_args[base_stage]),  # a stage inherits the arguments of its base
                author=earlier.author,
                history=list(earlier.history),
            )
            scope.declared |= set(scope.args)
            return scope, earlier.base
        name = self.raw.image
        reference = SCRATCH if name == SCRATCH else self.whole._image(name)
        platform = self.raw.platform or self.whole.options.platform
        self._add(SourceOp(reference, platform), self.raw.head.text, self.raw.head.source, None)
        self.first = self.last if self.last is not None else -1
        image = self.bases.get(reference, {}) if reference != SCRATCH else {}
        config = whole_characters(dict(image.get("config") or {}))
        refuse_null_bytes(config, reference)
        env = fold.Environment(config)
        if "PATH" not in env.values:
            env.set("PATH", fold.DEFAULT_PATH)
        return _Scope(config, env, author=whole_characters(str(image.get("author", "")))), reference

    def _add(self, op: Operation, title: str, source: SourceRange, parent: int | None, *more: int) -> int:
        number = len(self.steps)
        inputs = tuple(item for item in (parent, *more) if item is not None)
        self._append(Step(number, self.raw.index, title, source, op, parent, inputs))
        if not isinstance(op, SourceOp) or parent is None:
            self.last = number
        return number

    def _append(self, step: Step) -> None:
        if len(self.steps) == MOST_STEPS:
            raise BuildError(f"more than {MOST_STEPS} steps are needed", where=step.source)
        self.steps.append(step)
        self.whole.operations.setdefault(step.op, step.id)

    def _trigger(self, item: ast.Instruction, scope: _Scope) -> None:
        """An ONBUILD trigger of the base. What it copies from must be known without it."""
        names = [item.from_] if isinstance(item, ast.Copy) and item.from_ else []
        names += [flag.from_ for flag in item.mounts if flag.from_] if isinstance(item, ast.Run) else []
        for name in names:
            index = self.whole._origin_stage(name, self.raw.index)
            if index is None or index not in self.stages:
                raise BuildError(
                    f"the base image's trigger ONBUILD {item.text!r} reads {name!r}, which is not supported yet",
                    hint="write the instruction into this Dockerfile",
                )
        self._apply(item, scope)

    def _expand(self, text: str, scope: _Scope) -> str:
        return words.expand(text, scope.variables(), scope.escape)

    def _note(self, scope: _Scope, created_by: str, step: int | None = None) -> None:
        self.whole.budget.spend(len(created_by) + 100)
        scope.history.append(History(created_by, step))

    def _apply(self, item: ast.Instruction, scope: _Scope) -> None:
        scope.escape = item.escape
        if isinstance(item, ast.Run):
            self._run(item, scope)
        elif isinstance(item, ast.Copy):
            self._copy(item, scope)
        elif isinstance(item, ast.Arg):
            self._arg(item, scope)
        elif isinstance(item, ast.Word) and item.kind == "WORKDIR":
            path = fold.workdir(scope.config, self._expand(item.value, scope))
            op = WorkdirOp(path, str(scope.config.get("User") or ""))
            step = self._add(op, item.text, item.source, self.last)
            self._note(scope, f"WORKDIR {path}", step)
        else:
            self._metadata(item, scope)

    def _metadata(self, item: ast.Instruction, scope: _Scope) -> None:
        config = scope.config
        note = item.text
        if isinstance(item, ast.Pairs):
            before = scope.variables()  # all values of one instruction see the variables from before it
            pairs = [
                (words.expand(name, before, item.escape), words.expand(value, before, item.escape))
                for name, value in item.pairs
            ]
            if item.kind == "ENV":
                for name, value in pairs:
                    scope.env.set(name, value)
            else:
                labels = config["Labels"] = config.get("Labels") or {}
                labels.update(pairs)
            note = f"{item.kind} " + " ".join(f"{name}={value}" for name, value in pairs)
        elif isinstance(item, ast.Word):
            value = self._expand(item.value, scope) if item.kind != "MAINTAINER" else item.value
            if item.kind == "MAINTAINER":
                scope.author = value
            else:
                config["User" if item.kind == "USER" else "StopSignal"] = value
            note = f"{item.kind} {value}"
        elif isinstance(item, ast.Words):
            values: list[str] = []
            for word in item.values:
                values += (
                    self._expand(word, scope).split()
                    if item.kind == "EXPOSE"
                    else [self._expand(word, scope)]
                )
            if item.kind == "EXPOSE":
                fold.expose(config, values)
                self.whole.budget.spend(10 * len(config["ExposedPorts"]))
            else:
                fold.volume(config, values)
        elif isinstance(item, ast.Entry):
            argv = fold.command_words(item.command, scope.shell)
            if item.kind == "CMD":
                config["Cmd"] = argv
                scope.cmd_set = True
            else:
                config["Entrypoint"] = argv
                if not scope.cmd_set:
                    config.pop("Cmd", None)  # a base's CMD belongs to the base's ENTRYPOINT
        elif isinstance(item, ast.Shell):
            config["Shell"] = list(item.words)
        elif isinstance(item, ast.Healthcheck):
            fold.healthcheck(config, item, scope.shell)
        elif isinstance(item, ast.Onbuild):
            triggers = config["OnBuild"] = config.get("OnBuild") or []
            triggers.append(item.trigger)
        self._note(scope, note)

    def _arg(self, item: ast.Arg, scope: _Scope) -> None:
        given = self.whole.options.build_args
        found: dict[str, str] = {}  # as with ENV, all of them see the variables from before
        for name, default in item.args:
            scope.declared.add(name)
            if name in given:
                self.whole.used_args.add(name)
                found[name] = given[name]
            elif default is not None:
                found[name] = words.expand(default, scope.variables(), item.escape)
            elif name in self.whole.globals:
                found[name] = self.whole.globals[name]
            elif name in self.whole.automatic:
                found[name] = self.whole.automatic[name]
        scope.args.update(found)
        self.whole.budget.spend(sum(map(len, found.values())))
        self._note(scope, item.text)

    def _run(self, item: ast.Run, scope: _Scope) -> None:
        env = scope.env.values
        exported = tuple(f"{name}={value}" for name, value in scope.args.items() if name not in env)
        given = self.whole.options.build_args
        proxy = tuple(f"{n}={given[n]}" for n in sorted(PROXY_ARGS & set(given)) if n not in scope.declared)
        argv = tuple(fold.command_words(item.command, scope.shell))
        mounts = self._mounts(item, scope)
        volumes = tuple(scope.config.get("Volumes") or ())
        self.whole.budget.spend(scope.env.size + sum(map(len, (*exported, *argv, *volumes))))
        op = RunOp(
            command=argv,
            env=scope.env.entries(),
            args=exported,
            proxy=proxy,
            user=str(scope.config.get("User") or ""),
            cwd=str(scope.config.get("WorkingDir") or "/"),
            network=item.network,
            volumes=volumes,
            mounts=mounts,
        )
        more = dict.fromkeys(mount.origin for mount in mounts if mount.origin is not None)
        step = self._add(op, item.text, item.source, self.last, *more)
        shown = f"|{len(exported)} {' '.join(exported)} " if exported else ""
        self._note(scope, f"RUN {shown}{' '.join(argv)}", step)

    def _mounts(self, item: ast.Run, scope: _Scope) -> tuple[Mount, ...]:
        if not item.mounts:
            return ()
        from .run_mounts import resolve

        cwd = str(scope.config.get("WorkingDir") or "/")
        out = []
        for flag in item.mounts:
            mount = resolve(flag, lambda text: self._expand(text, scope), cwd)
            if flag.kind == "bind" or (flag.kind == "cache" and flag.from_):
                mount = self._mount_origin(mount, flag.from_, item)
            out.append(mount)
        return tuple(out)

    def _mount_origin(self, mount: Mount, name: str, item: ast.Run) -> Mount:
        """The mount with the step that it reads. What it reads of a context is copied first, as a COPY would, so that
        it is what the ignore file lets through, belongs to root, and does not change while the step runs."""
        context = self.whole.options.contexts.get(name)
        if name == SCRATCH and context is None:
            return replace(mount, origin=self._shared(SourceOp(SCRATCH), "FROM scratch", item.source, None))
        if name and self.whole._origin_stage(name, self.raw.index, MOUNT_FROM) is not None:
            index = self.whole._origin_stage(name, self.raw.index, MOUNT_FROM)
            return replace(mount, origin=self.stages[index or 0].last)
        if name and (context is None or context.kind != "dir"):
            op = SourceOp(self.whole._image(name), self.whole.options.platform)
            return replace(mount, origin=self._shared(op, f"FROM {op.reference}", item.source, None))
        empty = self._shared(SourceOp(SCRATCH), "FROM scratch", item.source, None)
        copied = CopyOp(
            sources=(literal(mount.source),),
            dest=CONTENT,
            origin=Origin("context", name=name),
            for_mount=True,
        )
        what = f"build context{f' {name}' if name else ''} {mount.source} for RUN --mount"
        return replace(mount, origin=self._shared(copied, what, item.source, empty), source=CONTENT)

    def _shared(self, op: Operation, title: str, source: SourceRange, parent: int | None) -> int:
        """The step with this operation that is no stage's, made when there is none yet."""
        known = self.whole.operations.get(op)
        if known is None:
            known = len(self.steps)
            inputs = () if parent is None else (parent,)
            self._append(Step(known, self.raw.index, title, source, op, parent, inputs, internal=True))
        return known

    def _copy(self, item: ast.Copy, scope: _Scope) -> None:
        name = "ADD" if item.add else "COPY"
        variables = scope.variables()
        sources = tuple(words.expand(text, variables, item.escape) for text in item.sources)
        dest = words.expand(item.dest, variables, item.escape)
        for text in sources if item.add else ():
            refuse_url(text)
        if any(not text for text in sources) or not dest:
            raise BuildError(f"{name} {' '.join(item.sources)} {item.dest}: a path is empty")
        if len(sources) > 1 and not dest.endswith("/") and dest not in (".", ".."):
            raise BuildError(
                f"{name} has {len(sources)} sources, so its destination {dest!r} must be a directory",
                hint=f"write {dest}/",
            )
        cwd = scope.config.get("WorkingDir") or "/"
        absolute = posixpath.normpath(posixpath.join("/", cwd, dest)).replace("//", "/")
        if (dest.endswith("/") or dest in (".", "..") or dest.endswith(("/.", "/.."))) and absolute != "/":
            absolute += "/"
        self.whole.budget.spend(len(absolute))
        origin, extra = self._origin(item)
        op = CopyOp(
            sources=sources,
            dest=absolute,
            origin=origin,
            chown=words.expand(item.chown, variables, item.escape),
            chmod=words.expand(item.chmod, variables, item.escape),
            unpack=item.add,
        )
        more = (extra,) if extra is not None else ()
        step = self._add(op, item.text, item.source, self.last, *more)
        self._note(scope, f"{name} {' '.join(sources)} {dest}", step)

    def _origin(self, item: ast.Copy) -> tuple[Origin, int | None]:
        if not item.from_:
            return Origin("context"), None
        index = self.whole._origin_stage(item.from_, self.raw.index)
        if index is not None:
            step = self.stages[index].last
            return Origin("step", step=step), step
        context = self.whole.options.contexts.get(item.from_)
        if context is not None and context.kind == "dir":
            return Origin("context", name=item.from_), None
        reference = self.whole._image(item.from_)
        op = SourceOp(reference, self.whole.options.platform)
        known = self._shared(op, f"FROM {reference}", item.source, None)
        return Origin("step", step=known), known


def references(instructions: Iterable[ast.Instruction], options: GraphOptions) -> dict[str, SourceRange]:
    """The images that the target needs, as written (variables replaced), with the place of the first use.

    ``scratch`` is not among them. Raises BuildError.
    """
    return _Builder(instructions, options).references()


def build_graph(
    instructions: Iterable[ast.Instruction], options: GraphOptions, bases: Mapping[str, Mapping[str, Any]]
) -> StepGraph:
    """The graph of all that the target needs.

    ``bases`` maps each reference of :func:`references` to its OCI image config. Equal inputs give equal graphs.
    Raises BuildError with the place of what is wrong.
    """
    return _Builder(instructions, options).build(bases)
