"""A build whose steps are carried out: all that operations use to change root filesystems."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from run_step import Root

from ..graph.step_graph import Step
from ..image.descriptor import Layer
from ..image.diff import EntryLog
from ..store.image_store import Session
from . import redact
from .cache_key import Key
from .common_steps import CommonSteps
from .executors import LazyExecutor
from .layers import LayerWriter
from .report import Report
from .result import Result
from .state import State
from .unpack import Unpacker, apply_layer


class ActiveBuild:
    """One build, its session in the store and the parts that all operations share.

    It is used on the engine's own thread and its pool, in a private mount namespace. As a context manager it waits for
    the layers at the end, drops what is incomplete and closes the executor.
    """

    def __init__(self, state: State, session: Session) -> None:
        options = state.options
        self.state = state
        self.session = session
        self.report = Report(state.emit)
        self.executor = LazyExecutor(options.run_step, partial(session.directory, "run"))
        self.secret_words = redact.words(secret.data for secret in options.secrets.values())
        """The secrets that must not be shown in the steps' output."""
        self.stdin_lock = threading.Lock()
        """Held by the step that reads standard input."""
        self.layers = LayerWriter(
            session,
            self.report,
            state.cancel,
            compression=options.compression,
            level=options.compression_level,
        )
        self._unpacker = Unpacker(session, self.check)
        self._common = CommonSteps(self.check)
        self._stack = ExitStack()
        state.digests.check = self.check

    def __enter__(self) -> ActiveBuild:
        self._stack.callback(self.executor.close)
        self._stack.enter_context(self.layers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def check(self) -> None:
        """Raise Cancelled when the build is to stop."""
        self.state.cancel.check()

    def snapshot(self, result: Result) -> int | None:
        """Return the snapshot of a result, unpacking an image that is not unpacked yet; None where it is empty."""
        return self._unpacker.snapshot(result)

    def change(
        self,
        step: Step,
        key: Key,
        act: Callable[[Root], object],
        *,
        layer: bool = True,
    ) -> Result:
        """Call ``act`` with a copy of the parent's root filesystem, and return what came of it as the step's result.

        An ``act`` that changed nothing makes an empty layer. Without ``layer`` the snapshot is kept, and no layer is
        written. If another step of this build has the same key and parent, its result is taken.
        """
        parent = self.snapshot(self.state.parent(step))
        # Of two steps that read standard input, each reads what the other has left.
        own = None if self.state.options.stdin is None else step.id
        name = (key.digest, parent, layer, own)
        number = self._common.once(name, lambda: self._changed(step, key, act, parent, layer))
        self.report.done(step)
        return Result(key.digest, number)

    def _changed(
        self, step: Step, key: Key, act: Callable[[Root], object], parent: int | None, layer: bool
    ) -> int:
        """Carry out the step of :meth:`change`, and return its snapshot."""
        self.session.store.catalogue.forget_contents(key.digest)
        active = self.session.prepare(parent)
        entries = EntryLog(self.session.path)
        try:
            with Root(active.path) as root:
                act(root)
            self._compare(active.finish(), parent, entries)
            number = self.session.commit(active, parent, empty=not entries.count)
            self.layers.made(number, parent)
        except BaseException:
            active.discard()
            entries.close()
            raise
        if layer:
            self.layers.write(step, key, number, entries)
        else:
            entries.close()
            self.layers.record(step, key, number, changed=True)
        return number

    def add(self, step: Step, key: Key, content: Key, act: Callable[[Root], object]) -> Result:
        """Put on the parent's root filesystem the layer of what ``act`` makes in an empty one, as the step's result.

        ``content`` is the key of that layer, which does not depend on the parent: where the layer is known, ``act``
        is not called. If another step of this build has the same key and parent, its result is taken.
        """
        parent = self.snapshot(self.state.parent(step))
        number = self._common.once((key.digest, parent), lambda: self._added(step, key, content, act, parent))
        self.report.done(step)
        return Result(key.digest, number)

    def _added(
        self, step: Step, key: Key, content: Key, act: Callable[[Root], object], parent: int | None
    ) -> int:
        """Carry out the step of :meth:`add`, and return its snapshot."""
        options = self.state.options
        cached = not (options.no_cache or step.stage in self.state.no_cache_stages)
        layer = self.layers.known(content) if cached else None
        if layer is None:
            layer = self._layer_of(step, act)
        self.session.store.catalogue.forget_contents(key.digest)
        number = apply_layer(layer, parent, self.session, self.check)
        self.layers.made(number, parent)
        self.layers.set_layer(number, layer)
        self.layers.record(step, key, number, changed=True)
        self.layers.record_content(content, number)
        return number

    def _layer_of(self, step: Step, act: Callable[[Root], object]) -> Layer:
        """Return the layer of what ``act`` makes in an empty root filesystem."""
        active = self.session.prepare(None)
        try:
            with Root(active.path) as root:
                act(root)
            directory = active.finish()
            entries = EntryLog(self.session.path)
            try:
                self._compare(directory, None, entries)
            except BaseException:
                entries.close()
                raise
            return self.layers.layer_of(step, directory, entries, self.check)
        finally:
            active.discard()

    def _compare(self, directory: str, parent: int | None, entries: EntryLog) -> None:
        """Write down how a finished root filesystem differs from its parent's."""
        tree, comparison = self.session.store.driver(self.session.path).comparison(directory)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with self.session.view(parent) as view:
            new, old = os.open(tree, flags), os.open(view.path, flags)
            try:
                for entry in comparison.walk(new, old):
                    self.check()
                    entries.add(entry)
            finally:
                os.close(new)
                os.close(old)
