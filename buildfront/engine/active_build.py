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
from ..image.diff import EntryLog
from ..store.image_store import Session
from . import redact
from .cache_key import Key
from .executors import LazyExecutor
from .layers import LayerWriter
from .report import Report
from .result import Result
from .state import State
from .unpack import Unpacker


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
        written.
        """
        before = self.state.parent(step)
        parent = self.snapshot(before)
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
        self.report.done(step)
        if layer:
            self.layers.write(step, key, number, entries)
        else:
            entries.close()
            self.layers.record(step, key, number, changed=True)
        return Result(key.digest, number)

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
