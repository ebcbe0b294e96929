"""One stage to steps: FROM, RUN, COPY, ADD, WORKDIR and ARG; the rest is folded by :mod:`.metadata`."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..dockerfile import instructions as ast
from ..dockerfile.ignore import literal
from ..errors import BuildError, SourceRange
from . import config as fold
from . import history, metadata
from .copy_step import copy_op
from .document_files import run_words
from .limits import refuse_null_bytes, whole_characters
from .outline import Outline, RawStage
from .run_mounts import resolve
from .scope import Scope
from .settings import CACHE_NAMES, MOUNT_FROM, NOT_EXPORTED, PROXY_ARGS, SCRATCH
from .step_graph import (
    CONTENT,
    CopyOp,
    Device,
    History,
    Mount,
    Operation,
    Origin,
    RunOp,
    SourceOp,
    Stage,
    Step,
    WorkdirOp,
)
from .steps import Steps

_DEVICE = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*=[\w.:-]+", re.ASCII)


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
        self._steps.scopes[raw.index] = scope
        return Stage(
            index=raw.index,
            name=raw.head.name,
            base=base,
            first=self._first,
            last=self._last,
            config=scope.config,
            author=scope.author,
            history=scope.lines(),
        )

    def _start(self) -> tuple[Scope, str]:
        """Return the scope that FROM gives, and the reference of the image at the bottom."""
        budget = self._steps.budget
        raw = self._raw
        if raw.base is not None:
            earlier, before = self._steps.stages[raw.base], self._steps.scopes[raw.base]
            self._last = self._first = earlier.last
            budget.spend(len(repr(earlier.config)) + 100 * len(earlier.history))
            config = copy.deepcopy(earlier.config)
            config.pop("OnBuild", None)
            scope = Scope(
                config,
                fold.Environment(config),
                budget,
                dict(before.args),  # a stage inherits the arguments of its base
                dict(before.declared),
                author=earlier.author,
                history=list(before.history),
                pending=before.pending,
                windows=before.windows,
            )
            return scope, earlier.base
        reference = self._outline.reference(raw)
        if reference is None:
            return self._start_from_files(raw.context or "")
        platform = raw.platform or self._outline.options.platform
        self._last = self._first = self._add(
            SourceOp(reference, platform), raw.head.text, raw.head.source, None
        )
        if reference == SCRATCH:
            return self._scope({"WorkingDir": "/"}), reference
        key = self._outline.base_key(raw)
        image = self._bases.get(key, {})
        config = fold.known(whole_characters(dict(image.get("config") or {})))
        refuse_null_bytes(config, reference)
        return self._scope(config, whole_characters(str(image.get("author", "")))), key

    def _scope(self, config: dict[str, Any], author: str = "") -> Scope:
        env = fold.Environment(config)
        platform = self._raw.platform or self._outline.options.platform
        windows = platform.startswith("windows/")
        if "PATH" not in env.values and not windows:  # as in BuildKit, Windows finds its own
            env.set("PATH", fold.DEFAULT_PATH)
        return Scope(config, env, self._steps.budget, author=author, windows=windows)

    def _start_from_files(self, name: str) -> tuple[Scope, str]:
        """Return the scope of a stage whose root filesystem is a named context."""
        head = self._raw.head
        empty = self._shared(SourceOp(SCRATCH), "FROM scratch", head.source)
        files = CopyOp((".",), "/", Origin("context", name=name))
        self._last = self._first = self._add(files, head.text, head.source, empty)
        scope = self._scope({} if self._raw.replaced else {"WorkingDir": "/"})
        scope.pending = History(f"local source for {name}", self._last)
        return scope, SCRATCH

    def _add(self, op: Operation, title: str, source: SourceRange, parent: int | None, *more: int) -> int:
        """Append a step of this stage, which is its last one then."""
        number = len(self._steps.steps)
        inputs = tuple(item for item in (parent, *more) if item is not None)
        self._last = self._steps.add(Step(number, self._raw.index, title, source, op, parent, inputs))
        return self._last

    def _shared(self, op: Operation, title: str, source: SourceRange, parent: int | None = None) -> int:
        return self._steps.shared(op, self._raw.index, title, source, parent)

    def _apply(self, item: ast.Instruction, scope: Scope) -> None:
        scope.escape = item.escape
        if isinstance(item, ast.Run):
            self._run(item, scope)
        elif isinstance(item, ast.Copy):
            self._copy(item, scope)
        elif isinstance(item, ast.Arg):
            self._arg(item, scope)
        elif isinstance(item, ast.Word) and item.kind == "WORKDIR":
            self._workdir(item, scope)
        else:
            metadata.apply(item, scope)

    def _arg(self, item: ast.Arg, scope: Scope) -> None:
        outline = self._outline
        shown = []
        for name, default in item.args:
            value: str | None
            if name in outline.given:
                outline.used_args.add(name)
                value = outline.given[name]
            elif default is not None:
                value = scope.expand(default)  # it sees the arguments before it on its line
            else:
                value = outline.globals.get(name, outline.automatic.get(name))
            scope.declare(name, value, exported=name not in NOT_EXPORTED)
            shown.append(name if value is None else f"{name}={value}")
        scope.note(f"ARG {' '.join(shown)}")

    def _workdir(self, item: ast.Word, scope: Scope) -> None:
        path = fold.workdir(scope.config, scope.expand(item.value))
        step = None
        if path != "/":
            op = WorkdirOp(scope.cwd, str(scope.config.get("User") or ""), self._outline.created)
            step = self._add(op, item.text, item.source, self._last)
        scope.note(f"WORKDIR {path}", step)

    def _run(self, item: ast.Run, scope: Scope) -> None:
        given = self._outline.given
        words, script = run_words(item.command)
        argv = tuple(fold.command_words(replace(item.command, words=words), scope.shell))
        exported = scope.exported()
        mounts = self._mounts(item, scope)
        volumes = tuple(scope.config.get("Volumes") or ())
        size = scope.env.size + sum(map(len, (*exported, *argv, *volumes)))
        scope.budget.spend(size + (len(script.content) if script else 0))
        op = RunOp(
            command=argv,
            env=scope.env.entries(),
            args=exported,
            proxy=tuple(
                f"{n}={given[n]}" for n in sorted(PROXY_ARGS & set(given)) if n not in scope.declared
            ),
            user=str(scope.config.get("User") or ""),
            cwd=scope.cwd,
            network=item.network,
            volumes=volumes,
            mounts=mounts,
            script=script,
            security=item.security,
            devices=tuple(_device(device) for device in item.devices),
        )
        more = dict.fromkeys(mount.origin for mount in mounts if mount.origin is not None)
        step = self._add(op, item.text, item.source, self._last, *more)
        scope.note(history.run(argv, scope.declared, scope.variables) + history.MARK, step)

    def _mounts(self, item: ast.Run, scope: Scope) -> tuple[Mount, ...]:
        out = []
        for flag in item.mounts:
            mount = resolve(flag, scope.expand, scope.cwd)
            if mount.kind == "bind" or (mount.kind == "cache" and flag.from_):
                mount = self._mount_origin(mount, flag.from_, item)
            if mount.kind == "cache" and self._outline.given.get(CACHE_NAMES):
                mount = replace(mount, id=f"{self._outline.given[CACHE_NAMES]}/{mount.id}")
            out.append(mount)
        return tuple(out)

    def _mount_origin(self, mount: Mount, name: str, item: ast.Run) -> Mount:
        """Return the mount with the step that it reads.

        What it reads of a context is copied first, as a COPY would, so that the ignore file counts, root owns it, and
        it does not change while the step runs.
        """
        outline = self._outline
        context = ""
        if name:
            index = outline.origin_stage(name, self._raw.index, MOUNT_FROM)
            if index is not None:
                return replace(mount, origin=self._steps.stages[index].last)
            image = outline.image(name)
            if image is not None:
                return replace(mount, origin=self._image(image, item.source))
            context = outline.options.context(name) or ""
        empty = self._shared(SourceOp(SCRATCH), "FROM scratch", item.source)
        copied = CopyOp(
            sources=(literal(mount.source),),
            dest=CONTENT,
            origin=Origin("context", name=context),
            for_mount=True,
        )
        title = f"build context{f' {context}' if context else ''} {mount.source} for RUN --mount"
        return replace(mount, origin=self._shared(copied, title, item.source, empty), source=CONTENT)

    def _image(self, reference: str, source: SourceRange) -> int:
        """Return the step of an image that a COPY or a mount reads."""
        platform = "" if reference == SCRATCH else self._outline.options.platform
        return self._shared(SourceOp(reference, platform), f"FROM {reference}", source)

    def _copy(self, item: ast.Copy, scope: Scope) -> None:
        origin, extra = self._origin(item)
        op, shown = copy_op(item, scope, origin)
        more = (extra,) if extra is not None else ()
        step = self._add(op, item.text, item.source, self._last, *more)
        scope.note(shown + history.MARK, step)

    def _origin(self, item: ast.Copy) -> tuple[Origin, int | None]:
        """Return where a COPY reads, and the step that it needs for that."""
        if not item.from_:
            return Origin("context"), None
        index = self._outline.origin_stage(item.from_, self._raw.index)
        if index is not None:
            step = self._steps.stages[index].last
            return Origin("step", step=step), step
        image = self._outline.image(item.from_)
        if image is None:
            return Origin("context", name=self._outline.options.context(item.from_) or ""), None
        step = self._image(image, item.source)
        return Origin("step", step=step), step


def _device(flag: ast.DeviceFlag) -> Device:
    """Return the device of a RUN. Raises BuildError for what is not the name of one: a Dockerfile names no paths."""
    if not _DEVICE.fullmatch(flag.name):
        raise BuildError(
            f"RUN --device={flag.name}: that is not the name of a CDI device",
            hint="the form is vendor.com/class=device",
        )
    return Device(flag.name, flag.required)
