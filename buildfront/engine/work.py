"""What happens when a step is not cached: snapshots, the step's own doing, layers written meanwhile.

Runs on the engine's own thread and its pool, in a private mount namespace.
"""

from __future__ import annotations

import concurrent.futures
import io
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from run_step import HostError, ImageDefaults, RequestError, Root, RunMount, RunRequest

from ..dockerfile.ignore import literal
from ..errors import BuildError
from ..graph.step_graph import CopyOp, Mount, RunOp, Step, WorkdirOp
from ..image.compression import writer
from ..image.diff import EntryLog
from ..image.hashed import HashedWriter
from ..image.layer import write_tar
from ..image.media_types import LAYER, LAYER_GZIP, LAYER_ZSTD
from ..steps import base as base_step
from ..steps import workdir
from ..steps.copy import Copier
from ..steps.select import Changed, Selection
from ..store.image_store import Session
from ..store.verified import remember
from ..text import visible
from . import cache_key, mounting, redact
from .engine import (
    EngineOptions,
    State,
    is_default_network,
    key_for,
    lookup,
    network_not_allowed,
    recall,
    source_of,
)
from .model import Event, Result

MEDIA_TYPES = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD, "uncompressed": LAYER}
_TAIL = 4000
_TRIES = 4
"""How often a COPY from a context that changes meanwhile is begun."""
_RECEIVING = frozenset(("slave", "rslave", "shared", "rshared"))
"""The propagation modes of a volume that shows what the host mounts while the step runs."""


class Cancelled(BuildError):
    """Another step failed, or the user interrupted."""


class _StepOutput:
    """What a step prints, told to the listeners without the secrets in it. ``tail`` is the end of it."""

    def __init__(self, state: State, step: Step, wanted: tuple[bytes, ...]) -> None:
        self._state = state
        self._step = step
        self._wanted = wanted
        self._redactors: dict[str, redact.Redactor] = {}
        self.tail = bytearray()

    def __call__(self, stream: str, data: bytes) -> None:
        if self._wanted:
            redactor = self._redactors.setdefault(stream, redact.Redactor(self._wanted))
            data = redactor.feed(data)
        self._tell(stream, data)

    def end(self) -> None:
        """Tell what was held back because it might have become a secret."""
        for stream, redactor in self._redactors.items():
            self._tell(stream, redactor.end())

    def _tell(self, stream: str, data: bytes) -> None:
        if not data:
            return
        self.tail.extend(data)
        del self.tail[:-_TAIL]
        self._state.emit(Event("output", self._step.id, self._step.title, {"stream": stream, "bytes": data}))


_OF_THE_HOST = ("volumes", "mounts", "devices", "hooks_dirs")
"""Options that name something of the host for every step."""


class Worker:
    """Runs the steps of a graph that have no result yet."""

    def __init__(self, state: State, session: Session) -> None:
        self.state = state
        self.session = session
        state.digests.check = self._go_on
        self._executor: Any = None
        self._lock = threading.Lock()
        self._stdin = threading.Lock()
        self._warned: set[str] = set()
        self._secret_words = redact.words(secret.data for secret in state.options.secrets.values())
        self._usage: dict[int, dict[str, Any]] = {}
        """What each RUN used, by the number of its step."""
        self._base_locks: dict[str, threading.Lock] = {}
        self._made: dict[int, int | None] = {}
        """The snapshots of this build's steps, and what each lies on."""
        self._kept: set[int] = set()
        """Those whose step counts as done."""
        self._layers: list[concurrent.futures.Future[None]] = []
        self._failed = False

    def run(self) -> None:
        """Everything that is left. On a failure the steps that run are stopped; what is done stays cached."""
        self._check()
        self._isolate()
        jobs = self.state.options.jobs or max(2, os.cpu_count() or 1)
        try:
            with (
                concurrent.futures.ThreadPoolExecutor(jobs, "buildfront-step") as pool,
                concurrent.futures.ThreadPoolExecutor(2, "buildfront-layer") as self._layer_pool,
            ):
                self._schedule(pool)
                for future in self._layers:
                    future.result()
        finally:
            self._drop_unfinished()
            if self._executor is not None:
                self._executor.close()

    def _drop_unfinished(self) -> None:
        """Take away the snapshots whose layer could not be written, and what lies on them: nobody would find them."""
        unfinished = self._made.keys() - self._kept
        for number in sorted(self._made):  # what a snapshot lies on has a lower number
            if self._made[number] in unfinished:
                unfinished.add(number)
        for number in sorted(unfinished, reverse=True):
            with suppress(OSError, BuildError):  # the disk may be full; what went wrong first is told
                self.session.drop(number)

    def _check(self) -> None:
        """What no step can have is told before the first, not when its turn comes: a source of a volume that is
        missing, an unknown device. And RUN --network=host is no way out of a default that is a network of the
        step's own."""
        options = self.state.options
        runs = [step for step in self.state.graph.steps if step.id not in self.state.results]
        runs = [step for step in runs if isinstance(step.op, RunOp)]
        template = options.template
        if runs and template is not None and any(getattr(template, name) for name in _OF_THE_HOST):
            try:
                self._trial(runs[0])
            except (RequestError, HostError) as error:
                raise BuildError(str(error)) from error
        if "network.host" in options.allow or not is_default_network(options):
            return
        hosts = [step for step in runs if isinstance(step.op, RunOp) and step.op.network == "host"]
        if hosts:
            try:
                plan = self._trial(hosts[0], **dict.fromkeys(_OF_THE_HOST, ()))
            except (RequestError, HostError) as error:
                raise BuildError(str(error), where=hosts[0].source) from error
            # An executor of another make may not tell.
            mode = str(getattr(getattr(plan, "network", None), "mode", ""))
            if mode not in ("", "host"):
                raise network_not_allowed(mode).at(hosts[0].source)

    def _trial(self, step: Step, **more: Any) -> Any:
        """The plan of a RUN with the build's options, in a root filesystem that is not there yet."""
        assert isinstance(step.op, RunOp)
        op = replace(step.op, network="default", user="", cwd="/", mounts=(), volumes=())
        request = run_request(self.state.options, op, self.session.directory("none"), "0" * 64, ())
        return self._load_executor().plan(replace(request, group_add=(), **more))

    def _isolate(self) -> None:
        from ..store.snapshots.overlay_mount import enter_private_namespace

        template = self.state.options.template
        words = [] if template is None else re.split("[:,=]", ",".join((*template.volumes, *template.mounts)))
        try:
            enter_private_namespace(receive=not _RECEIVING.isdisjoint(words))
        except OSError:
            # No privilege to mount: the copying snapshots need none, and a step says itself what it lacks.
            self.state.store.can_mount = False

    def _schedule(self, pool: concurrent.futures.ThreadPoolExecutor) -> None:
        state = self.state
        steps = {step.id: step for step in state.graph.steps if step.id not in state.results}
        missing = {
            step.id: {number for number in step.inputs if number not in state.results}
            for step in steps.values()
        }
        followers: dict[int, list[int]] = {}
        for number, inputs in missing.items():
            for before in inputs:
                followers.setdefault(before, []).append(number)
        ready = [number for number, inputs in missing.items() if not inputs]
        running: dict[concurrent.futures.Future[Result], Step] = {}
        failure: BaseException | None = None
        while (ready and failure is None) or running:
            if failure is None:
                for number in sorted(ready):
                    running[pool.submit(self._step, steps[number])] = steps[number]
                ready.clear()
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                step = running.pop(future)
                error = future.exception()
                if error is None:
                    state.results[step.id] = future.result()
                    for number in followers.get(step.id, ()):
                        missing[number].discard(step.id)
                        if not missing[number]:
                            ready.append(number)
                elif failure is None or isinstance(failure, Cancelled):
                    failure = error
                    self._failed = self._failed or not state.cancel.is_set()
                    state.cancel.set()
        if failure is not None:
            raise failure

    def _go_on(self) -> None:
        """Raises Cancelled when the build is to end."""
        if self.state.cancel.is_set():
            raise Cancelled("the build was stopped", status=130)

    def _write_on(self) -> None:
        """The same for the layers of steps that are done. One that another step's failure has ended keeps them."""
        if not self._failed:
            self._go_on()

    # one step

    def _step(self, step: Step) -> Result:
        if self.state.cancel.is_set():
            raise Cancelled("the build was stopped", where=step.source, status=130)
        began = time.monotonic()
        try:
            result = lookup(self.state, step)
            if result is None:
                result = self._perform(step, began)
            if result.cached:
                self.state.emit(Event("cached", step.id, step.title))
            return result
        except BuildError as error:
            if not isinstance(error, Cancelled):
                self.state.emit(
                    Event("failed", step.id, step.title, {"error": error.what, **self._used(step)})
                )
            raise error.at(step.source) from None
        except RecursionError:
            what = "the step has too many directories in each other"
            self.state.emit(Event("failed", step.id, step.title, {"error": what, **self._used(step)}))
            raise BuildError(what, where=step.source) from None
        except (RequestError, HostError) as error:
            self.state.emit(Event("failed", step.id, step.title, {"error": str(error)}))
            raise BuildError(str(error), where=step.source) from error
        except OSError as error:
            failure = self.session.store.told(error)
            self.state.emit(Event("failed", step.id, step.title, {"error": failure.what, **self._used(step)}))
            raise failure.at(step.source) from error

    def _perform(self, step: Step, began: float) -> Result:
        op = step.op
        if isinstance(op, RunOp):
            return self._run(step, op, began)
        if isinstance(op, CopyOp):
            return self._copy(step, op, began)
        assert isinstance(op, WorkdirOp)
        self.state.emit(Event("start", step.id, step.title))
        return self._change(
            step,
            key_for(self.state, step, ""),
            began,
            lambda root: workdir.perform(op, root),
            keep_empty=False,
        )

    def _snapshot(self, result: Result) -> int | None:
        """The snapshot of a result, its base unpacked when that is still to be done."""
        if result.snapshot is not None or result.base is None:
            return result.snapshot
        with self._lock:
            lock = self._base_locks.setdefault(result.base.config_digest, threading.Lock())
        with lock:
            return base_step.unpack(result.base, self.session, self._go_on)

    def _parent(self, step: Step) -> int | None:
        assert step.parent is not None
        return self._snapshot(self.state.results[step.parent])

    def _copy(self, step: Step, op: CopyOp, began: float) -> Result:
        state = self.state
        origin = source_of(state, op)
        if origin is not None:
            with self.session.view(self._snapshot(origin)) as view, Root(view.path) as source:
                content, selections = state.digests.of_tree(op.sources, source, origin)
                keyed = key_for(state, step, content)
                known = recall(state, step, keyed)
                if known is not None:
                    return known
                state.emit(Event("start", step.id, step.title))

                def copy(root: Root) -> bool:
                    Copier(op, source, root, keep_owner=True, check=self._go_on).run(selections)
                    return True

                return self._change(step, keyed, began, copy)
        return self._copy_context(step, op, began)

    def _copy_context(self, step: Step, op: CopyOp, began: float) -> Result:
        """A COPY of files that may change under us. What was copied is what the key says, or it is begun again."""
        state = self.state
        for attempt in range(1, _TRIES + 1):
            found = state.digests.of_context(op)
            keyed = key_for(state, step, found[0])
            if attempt == 1:
                state.emit(Event("start", step.id, step.title))
            elif (known := recall(state, step, keyed)) is not None:
                self._done(step, began)
                return replace(known, cached=False)  # we have told that it runs
            if state.cancel.is_set():
                raise Cancelled("the build was stopped", where=step.source, status=130)
            try:
                with Root(state.contexts[op.origin.name].path) as source:
                    return self._change(step, keyed, began, partial(self._copy_from, op, source, found[1]))
            except Changed:
                state.digests.look_again(op, found)
                if attempt == _TRIES:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _copy_from(self, op: CopyOp, source: Root, selections: list[Selection], root: Root) -> bool:
        Copier(op, source, root, keep_owner=False, check=self._go_on).run(selections)
        return True

    def _run(self, step: Step, op: RunOp, began: float) -> Result:
        executor = self._load_executor()
        keyed = key_for(self.state, step, [self._mount_content(mount) for mount in op.mounts])
        if op.mounts:
            known = recall(self.state, step, keyed)
            if known is not None:
                return known
        self.state.emit(Event("start", step.id, step.title))
        options = self.state.options
        mounts = mounting.planned(op, options.secrets, options.agents)

        def run(root: Root) -> bool:
            request = run_request(options, op, root.path, keyed[0], mounts)
            output = _StepOutput(self.state, step, self._secret_words)
            plan = executor.plan(request)
            self._warn(step, plan.warnings)
            more: dict[str, Any] = {} if options.stdin is None else {"stdin": options.stdin}
            with (
                mounting.Mounting(self.state, self.session, self._snapshot, self.state.cancel) as mounted,
                self._stdin if more else nullcontext(),  # one reader at a time
            ):
                if mounts:
                    spec = getattr(plan, "spec", {})  # an executor of another make may have none
                    places = [item["destination"] for item in spec.get("mounts", ())]
                    more["inputs"] = mounted.open(op, places)
                    if more["inputs"] is None:
                        raise Cancelled("the build was stopped", where=step.source, status=130)
                result = executor.execute(
                    plan, root.path, output=output, cancel=self.state.cancel, timeout=options.timeout, **more
                )
            output.end()
            usage = getattr(result, "usage", None)  # an executor of another make may have none
            if usage is not None:
                self._usage[step.id] = usage()
            self._warn(step, getattr(result, "warnings", ()))
            if result.cancelled and not result.timed_out:
                raise Cancelled("the build was stopped", where=step.source, status=130)
            if result.exit_status or result.timed_out:
                raise BuildError(
                    f"the command failed: {result.describe()}",
                    where=step.source,
                    output=output.tail.decode("utf-8", "replace"),
                    status=result.exit_status or 1,
                )
            return True

        return self._change(step, keyed, began, run)

    def _mount_content(self, mount: Mount) -> str:
        """The digest of what a mount reads, looked for in the step's result when it is not known yet."""
        found = mounting.content(self.state, mount)
        if found is not None or mount.origin is None:
            return found or ""
        result = self.state.results[mount.origin]
        with self.session.view(self._snapshot(result)) as view, Root(view.path) as source:
            what = "stage it is mounted from"
            return self.state.digests.of_tree((literal(mount.source),), source, result, what)[0]

    def _warn(self, step: Step, warnings: tuple[str, ...]) -> None:
        """What is true of the machine is said once in a build, not for every step."""
        with self._lock:
            new = [text for text in warnings if text not in self._warned]
            self._warned.update(new)
        for text in new:
            self.state.emit(Event("warning", step.id, step.title, {"text": text}))

    def _load_executor(self) -> Any:
        with self._lock:
            if self._executor is None:
                self._executor = load_executor(self.state.options.run_step, self.session.directory("run"))
            return self._executor

    # results

    def _change(
        self,
        step: Step,
        keyed: tuple[str, dict[str, Any]],
        began: float,
        doing: Callable[[Root], bool],
        *,
        keep_empty: bool = True,
    ) -> Result:
        """Do something to a copy of the parent's root filesystem, and keep what came of it."""
        parent = self._parent(step)
        self.session.store.catalogue.forget_contents(keyed[0])
        active = self.session.prepare(parent)
        entries = EntryLog(self.session.path)
        try:
            with Root(active.path) as root:
                doing(root)
            directory = active.finish()
            tree, comparison = self.session.store.driver(self.session.path).comparison(directory)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            with self.session.view(parent) as view:
                new, old = os.open(tree, flags), os.open(view.path, flags)
                try:
                    for entry in comparison.walk(new, old):
                        self._go_on()
                        entries.add(entry)
                finally:
                    os.close(new)
                    os.close(old)
            if not entries.count and not keep_empty:
                active.discard()
                entries.close()
                self._remember(step, keyed, parent, False, began)
                self._done(step, began)
                result = self.state.results[step.parent if step.parent is not None else step.id]
                return replace(result, key=keyed[0], changed=False, cached=False)
            number = self.session.commit(active, parent, empty=not entries.count)
            self._made[number] = parent
        except BaseException:
            active.discard()
            entries.close()
            raise
        self._done(step, began)
        if isinstance(step.op, CopyOp) and step.op.for_mount:
            entries.close()
            self._remember(step, keyed, number, True, began)
            return Result(keyed[0], number)
        self._layers.append(self._layer_pool.submit(self._layer, step, keyed, number, entries, began))
        return Result(keyed[0], number)

    def _done(self, step: Step, began: float) -> None:
        seconds = time.monotonic() - began
        self.state.emit(Event("done", step.id, step.title, {"seconds": seconds, **self._used(step)}))

    def _used(self, step: Step) -> dict[str, Any]:
        return {"usage": self._usage[step.id]} if step.id in self._usage else {}

    def _layer(
        self, step: Step, keyed: tuple[str, dict[str, Any]], number: int, entries: EntryLog, began: float
    ) -> None:
        """Write the layer's blob; only then the step counts as cached."""
        try:
            self._write_layer(step, keyed, number, entries, began)
        except OSError as error:
            raise self.session.store.told(error).at(step.source) from error

    def _write_layer(
        self, step: Step, keyed: tuple[str, dict[str, Any]], number: int, entries: EntryLog, began: float
    ) -> None:
        store = self.session.store
        tree, _ = store.driver(self.session.path).comparison(store.snapshot_path(number))
        blob = self.session.blob()
        lists: list[str] = []
        try:
            compression = self.state.options.compression
            compressed = writer(blob, compression, self.state.options.compression_level)
            hashed = HashedWriter(compressed, self._write_on)
            root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with io.BufferedWriter(hashed, 1 << 18) as out:
                    write_tar(entries, root, out, lists.append)
                    out.flush()
                    compressed.close()
            finally:
                os.close(root)
            descriptor = blob.commit(MEDIA_TYPES[compression])
            remember(store, [descriptor.digest])
        except BaseException:
            blob.discard()
            raise
        finally:
            entries.close()
        if lists:
            more = f" and {len(lists) - 1} more" if len(lists) > 1 else ""
            text = f"{visible(lists[0], 200)}{more} lost the access control list that the step left: no image has one"
            self._warn(step, (text,))
        store.catalogue.set_layer(
            number, hashed.digest, descriptor.digest, descriptor.size, descriptor.media_type
        )
        self._remember(step, keyed, number, True, began)

    def _remember(
        self, step: Step, keyed: tuple[str, dict[str, Any]], number: int | None, changed: bool, began: float
    ) -> None:
        wall = time.monotonic() - began
        slot = f"{step.stage}:{step.source.start}:{step.op.kind}"
        self.session.store.catalogue.set_step(
            keyed[0],
            slot,
            number,
            changed,
            cache_key.canonical(keyed[1]),
            int(wall * 1e6),
            int(time.time()),
            cache_key.canonical(self._usage.get(step.id, {})),
        )
        if number is not None and changed:
            self._kept.add(number)


def run_request(
    options: EngineOptions, op: RunOp, rootfs: str, identity: str, mounts: tuple[RunMount, ...]
) -> RunRequest:
    """The request for one RUN in ``rootfs``, with the options that all of them get."""
    template = options.template or RunRequest(args=("",), rootfs="/", terminal="without", http_proxy=True)
    return replace(
        template,
        args=op.command,
        rootfs=rootfs,
        image=ImageDefaults(
            env=op.env,
            user=op.user,
            working_dir=op.cwd,
            volumes=op.volumes if options.compat_volumes else (),
        ),
        env=op.args + op.proxy,
        container_id=identity,
        network=op.network if op.network not in ("", "default") else template.network,
        run_mounts=mounts,
    )


def load_executor(name: str, work_dir: str) -> Any:
    """The RUN executor registered as ``name`` in the entry point group ``buildfront.run_step``.

    Raises BuildError that names those that exist.
    """
    if name == "local":
        # The one that comes along needs no search through every installed distribution.
        from run_step import LocalExecutor

        return LocalExecutor(work_dir=work_dir)
    from importlib.metadata import entry_points

    found = {item.name: item for item in entry_points(group="buildfront.run_step")}
    if name not in found:
        raise BuildError(
            f"no RUN executor is called {name!r}", hint=f"known are {', '.join(sorted(found)) or 'local'}"
        )
    return found[name].load()(work_dir=work_dir)
