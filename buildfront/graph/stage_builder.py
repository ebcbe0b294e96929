"""One stage to steps: FROM, RUN, COPY, ADD, WORKDIR and ARG; the rest is folded by :mod:`.metadata`."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..dockerfile import instructions as ast
from ..dockerfile.ignore import literal
from ..dockerfile.parse import trigger
from ..errors import BuildError, SourceRange
from . import config as fold
from . import metadata
from .limits import MOST_STEPS, Budget, refuse_null_bytes, whole_characters
from .metadata import Scope
from .outline import Outline, RawStage
from .run_mounts import resolve
from .settings import MOUNT_FROM, PROXY_ARGS, SCRATCH
from .step_graph import CONTENT, CopyOp, Mount, Operation, Origin, RunOp, SourceOp, Stage, Step, WorkdirOp


class Steps:
    """The steps so far, in the order of the Dockerfile, and the stages that are built."""

    def __init__(self, budget: Budget) -> None:
        self.steps: list[Step] = []
        self.stages: dict[int, Stage] = {}
        self.stage_args: dict[int, dict[str, str]] = {}
        self.budget = budget
        self._by_operation: dict[Operation, int] = {}

    def add(self, step: Step) -> int:
        """Append a step and return its id. Raises BuildError for one too many."""
        if len(self.steps) == MOST_STEPS:
            raise BuildError(f"more than {MOST_STEPS} steps are needed", where=step.source)
        self.steps.append(step)
        self._by_operation.setdefault(step.op, step.id)
        return step.id

    def shared(self, op: Operation, stage: int, title: str, source: SourceRange, parent: int | None) -> int:
        """Return the first step with this operation; one that belongs to no stage is made where there is none."""
        known = self._by_operation.get(op)
        if known is not None:
            return known
        inputs = () if parent is None else (parent,)
        return self.add(Step(len(self.steps), stage, title, source, op, parent, inputs, internal=True))


class StageBuilder:
    """Builds one stage. The stages that it needs are in ``steps`` already."""

    def __init__(
        self, outline: Outline, raw: RawStage, bases: Mapping[str, Mapping[str, Any]], steps: Steps
    ) -> None:
        self._outline = outline
        self._raw = raw
        self._bases = bases
        self._steps = steps
        self._last: int | None = None
        self._first = -1

    def build(self) -> Stage:
        """Add the stage's steps and return the stage. Raises BuildError with the place of what is wrong."""
        raw, outline = self._raw, self._outline
        try:
            scope, base = self._start()
        except BuildError as error:
            raise error.at(raw.head.source) from None
        triggers = list(scope.config.pop("OnBuild", None) or [])
        for text in triggers:
            try:
                self._trigger(trigger(text, raw.head.source), scope)
            except BuildError as error:
                raise error.at(raw.head.source) from None
        for item in raw.body:
            try:
                self._apply(item, scope)
            except BuildError as error:
                raise error.at(item.source) from None
        if raw.index == outline.target and outline.options.labels:
            labels = dict(scope.config.get("Labels") or {})
            labels.update(outline.options.labels)
            scope.config["Labels"] = labels
        assert self._last is not None
        self._steps.stage_args[raw.index] = scope.args
        return Stage(
            index=raw.index,
            name=raw.head.name,
            base=base,
            first=self._first,
            last=self._last,
            config=scope.config,
            author=scope.author,
            history=tuple(scope.history),
        )

    def _start(self) -> tuple[Scope, str]:
        """Return the scope that FROM gives, and the reference of the image at the bottom."""
        budget = self._steps.budget
        base_stage = self._outline.base_stage(self._raw)
        if base_stage is not None:
            earlier = self._steps.stages[base_stage]
            self._last = self._first = earlier.last
            budget.spend(len(repr(earlier.config)) + 100 * len(earlier.history))
            config = copy.deepcopy(earlier.config)
            scope = Scope(
                config,
                fold.Environment(config),
                budget,
                dict(self._steps.stage_args[base_stage]),  # a stage inherits the arguments of its base
                author=earlier.author,
                history=list(earlier.history),
            )
            scope.declared |= set(scope.args)
            return scope, earlier.base
        name = self._raw.image
        reference = SCRATCH if name == SCRATCH else self._outline.image(name)
        platform = self._raw.platform or self._outline.options.platform
        head = self._raw.head
        self._last = self._first = self._add(SourceOp(reference, platform), head.text, head.source, None)
        image = self._bases.get(reference, {}) if reference != SCRATCH else {}
        config = whole_characters(dict(image.get("config") or {}))
        refuse_null_bytes(config, reference)
        env = fold.Environment(config)
        if "PATH" not in env.values:
            env.set("PATH", fold.DEFAULT_PATH)
        return Scope(config, env, budget, author=whole_characters(str(image.get("author", "")))), reference

    def _add(self, op: Operation, title: str, source: SourceRange, parent: int | None, *more: int) -> int:
        """Append a step of this stage, which is its last one then."""
        number = len(self._steps.steps)
        inputs = tuple(item for item in (parent, *more) if item is not None)
        self._last = self._steps.add(Step(number, self._raw.index, title, source, op, parent, inputs))
        return self._last

    def _shared(self, op: Operation, title: str, source: SourceRange, parent: int | None = None) -> int:
        return self._steps.shared(op, self._raw.index, title, source, parent)

    def _trigger(self, item: ast.Instruction, scope: Scope) -> None:
        """Apply an ONBUILD trigger of the base. The stages that it reads must be needed without it."""
        names = [item.from_] if isinstance(item, ast.Copy) and item.from_ else []
        names += [flag.from_ for flag in item.mounts if flag.from_] if isinstance(item, ast.Run) else []
        for name in names:
            index = self._outline.origin_stage(name, self._raw.index)
            if index is None or index not in self._steps.stages:
                raise BuildError(
                    f"the base image's trigger ONBUILD {item.text!r} reads {name!r}, which is not supported yet",
                    hint="write the instruction into this Dockerfile",
                )
        self._apply(item, scope)

    def _apply(self, item: ast.Instruction, scope: Scope) -> None:
        scope.escape = item.escape
        if isinstance(item, ast.Run):
            self._run(item, scope)
        elif isinstance(item, ast.Copy):
            self._copy(item, scope)
        elif isinstance(item, ast.Arg):
            self._arg(item, scope)
        elif isinstance(item, ast.Word) and item.kind == "WORKDIR":
            path = fold.workdir(scope.config, scope.expand(item.value))
            op = WorkdirOp(path, str(scope.config.get("User") or ""))
            scope.note(f"WORKDIR {path}", self._add(op, item.text, item.source, self._last))
        else:
            metadata.apply(item, scope)

    def _arg(self, item: ast.Arg, scope: Scope) -> None:
        outline = self._outline
        given = outline.options.build_args
        found: dict[str, str] = {}  # as with ENV, all of them see the variables from before
        for name, default in item.args:
            scope.declared.add(name)
            if name in given:
                outline.used_args.add(name)
                found[name] = given[name]
            elif default is not None:
                found[name] = scope.expand(default)
            elif name in outline.globals:
                found[name] = outline.globals[name]
            elif name in outline.automatic:
                found[name] = outline.automatic[name]
        scope.args.update(found)
        scope.budget.spend(sum(map(len, found.values())))
        scope.note(item.text)

    def _run(self, item: ast.Run, scope: Scope) -> None:
        env = scope.env.values
        exported = tuple(f"{name}={value}" for name, value in scope.args.items() if name not in env)
        given = self._outline.options.build_args
        proxy = tuple(f"{n}={given[n]}" for n in sorted(PROXY_ARGS & set(given)) if n not in scope.declared)
        argv = tuple(fold.command_words(item.command, scope.shell))
        mounts = self._mounts(item, scope)
        volumes = tuple(scope.config.get("Volumes") or ())
        scope.budget.spend(scope.env.size + sum(map(len, (*exported, *argv, *volumes))))
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
        step = self._add(op, item.text, item.source, self._last, *more)
        shown = f"|{len(exported)} {' '.join(exported)} " if exported else ""
        scope.note(f"RUN {shown}{' '.join(argv)}", step)

    def _mounts(self, item: ast.Run, scope: Scope) -> tuple[Mount, ...]:
        cwd = str(scope.config.get("WorkingDir") or "/")
        out = []
        for flag in item.mounts:
            mount = resolve(flag, scope.expand, cwd)
            if flag.kind == "bind" or (flag.kind == "cache" and flag.from_):
                mount = self._mount_origin(mount, flag.from_, item)
            out.append(mount)
        return tuple(out)

    def _mount_origin(self, mount: Mount, name: str, item: ast.Run) -> Mount:
        """Return the mount with the step that it reads.

        What it reads of a context is copied first, as a COPY would, so that the ignore file counts, root owns it, and
        it does not change while the step runs.
        """
        outline = self._outline
        context = outline.options.contexts.get(name)
        if name == SCRATCH and context is None:
            return replace(mount, origin=self._shared(SourceOp(SCRATCH), "FROM scratch", item.source))
        if name:
            index = outline.origin_stage(name, self._raw.index, MOUNT_FROM)
            if index is not None:
                return replace(mount, origin=self._steps.stages[index].last)
            if context is None or context.kind != "dir":
                return replace(mount, origin=self._image(name, item.source))
        empty = self._shared(SourceOp(SCRATCH), "FROM scratch", item.source)
        copied = CopyOp(
            sources=(literal(mount.source),),
            dest=CONTENT,
            origin=Origin("context", name=name),
            for_mount=True,
        )
        title = f"build context{f' {name}' if name else ''} {mount.source} for RUN --mount"
        return replace(mount, origin=self._shared(copied, title, item.source, empty), source=CONTENT)

    def _image(self, name: str, source: SourceRange) -> int:
        """Return the step of an image that a COPY or a mount reads."""
        op = SourceOp(self._outline.image(name), self._outline.options.platform)
        return self._shared(op, f"FROM {op.reference}", source)

    def _copy(self, item: ast.Copy, scope: Scope) -> None:
        name = "ADD" if item.add else "COPY"
        sources = tuple(scope.expand(text) for text in item.sources)
        dest = scope.expand(item.dest)
        if any(not text for text in sources) or not dest:
            raise BuildError(f"{name} {' '.join(item.sources)} {item.dest}: a path is empty")
        if len(sources) > 1 and not dest.endswith("/") and dest not in (".", ".."):
            raise BuildError(
                f"{name} has {len(sources)} sources, so its destination {dest!r} must be a directory",
                hint=f"write {dest}/",
            )
        absolute = _destination(str(scope.config.get("WorkingDir") or "/"), dest)
        scope.budget.spend(len(absolute))
        origin, extra = self._origin(item)
        op = CopyOp(
            sources=sources,
            dest=absolute,
            origin=origin,
            chown=scope.expand(item.chown),
            chmod=scope.expand(item.chmod),
            unpack=item.add,
        )
        more = (extra,) if extra is not None else ()
        step = self._add(op, item.text, item.source, self._last, *more)
        scope.note(f"{name} {' '.join(sources)} {dest}", step)

    def _origin(self, item: ast.Copy) -> tuple[Origin, int | None]:
        """Return where a COPY reads, and the step that it needs for that."""
        if not item.from_:
            return Origin("context"), None
        index = self._outline.origin_stage(item.from_, self._raw.index)
        if index is not None:
            step = self._steps.stages[index].last
            return Origin("step", step=step), step
        context = self._outline.options.contexts.get(item.from_)
        if context is not None and context.kind == "dir":
            return Origin("context", name=item.from_), None
        step = self._image(item.from_, item.source)
        return Origin("step", step=step), step


def _destination(cwd: str, dest: str) -> str:
    """Return the absolute destination of a COPY; it ends with ``/`` where ``dest`` can only be a directory."""
    absolute = posixpath.normpath(posixpath.join("/", cwd, dest)).replace("//", "/")
    is_directory = dest.endswith(("/", "/.", "/..")) or dest in (".", "..")
    return absolute + "/" if is_directory and absolute != "/" else absolute
