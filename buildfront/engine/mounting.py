"""What the mounts of a RUN stand for: views of other steps' results, caches of the store, secrets, agents.

:func:`planned` says what the plugin is asked for, and touches nothing; :class:`Mounting` holds what is behind it for
the time of one run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Container, Iterable
from contextlib import ExitStack
from functools import partial

from run_step import Inputs, Root, RunMount

from ..dockerfile.ignore import literal
from ..dockerfile.mount_flags import SHARING
from ..errors import BuildError
from ..graph.step_graph import CopyOp, Mount, RunOp, SourceOp
from ..image.owner import own
from ..store.image_store import Session
from . import cache_key
from .engine import State
from .model import Result


def planned(op: RunOp, secrets: Container[str], agents: Container[str]) -> tuple[RunMount, ...]:
    """The mounts for the plugin; a secret or an agent that is not here and not required is left out.

    Raises BuildError for one that is required.
    """
    out = []
    sockets = 0
    for number, mount in enumerate(op.mounts):
        target = mount.target
        if mount.kind == "ssh":
            target = target or f"/run/buildkit/ssh_agent.{sockets}"
            sockets += 1
        if mount.kind == "secret" and mount.id not in secrets:
            _missing(mount, f"the secret {mount.id!r}", f"--secret id={mount.id},src=FILE")
            continue
        if mount.kind == "ssh" and mount.id not in agents:
            _missing(mount, f"the SSH agent {mount.id!r}", f"--ssh {mount.id}")
            continue
        out.append(
            RunMount(
                kind=mount.kind,
                target=target,
                source=source_name(number) if mount.kind in ("bind", "cache") else "",
                read_only=mount.read_only,
                id=mount.id if mount.kind in ("secret", "ssh") else "",
                env=mount.env,
                size=mount.size,
                mode=mount.mode if mount.kind in ("secret", "ssh") else None,
                uid=mount.uid if mount.kind in ("secret", "ssh") else None,
                gid=mount.gid if mount.kind in ("secret", "ssh") else None,
            )
        )
    return tuple(out)


def _missing(mount: Mount, what: str, flag: str) -> None:
    if mount.required:
        raise BuildError(f"{what} is required by RUN --mount, and was not given", hint=f"give it with {flag}")


def source_name(number: int) -> str:
    """What the source of the mount of that number is called in a plan."""
    return f"mount-{number}"


def content(state: State, mount: Mount) -> str | None:
    """What tells one content of a mount from another, for the key of the step; None where that can't be known before
    the step that it reads is looked into. An image and a context go by their own keys, a whole result by its key and
    its snapshot: the same command gives other files when it runs again."""
    if mount.origin is None:
        return ""
    result = state.results[mount.origin]
    op = state.graph.step(mount.origin).op
    if isinstance(op, SourceOp) or (isinstance(op, CopyOp) and op.for_mount):
        return f"step:{result.key}"
    if mount.source == "/":
        return f"step:{result.key}:{result.snapshot}"
    return state.digests.of_step((literal(mount.source),), result)


class Mounting:
    """The sources of one RUN, open while it runs. Close it in every outcome."""

    def __init__(
        self,
        state: State,
        session: Session,
        snapshot: Callable[[Result], int | None],
        cancel: threading.Event,
    ) -> None:
        self._state = state
        self._session = session
        self._snapshot = snapshot
        self._cancel = cancel
        self._stack = ExitStack()

    def __enter__(self) -> Mounting:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, op: RunOp, places: Iterable[str] = ()) -> Inputs | None:
        """All that the mounts need; None when the build was stopped while a cache was waited for.

        ``places`` is where all mounts of the step are. A shared cache that others of them lie in is taken alone: a step
        that puts a link in the way at the right moment would lead an OCI runtime to make their places on the host.
        """
        sources: dict[str, str] = {}
        locks: list[int] = []
        caches: dict[tuple[str, str], str] = {}
        shared: set[tuple[str, str]] = set()
        wanted: dict[tuple[str, str], Mount] = {}
        for number, mount in enumerate(op.mounts):
            if mount.kind == "bind":
                sources[source_name(number)] = self._bind(mount)
            elif mount.kind == "cache":
                # One cache of two mounts is taken once, or a locked one would wait for itself; as the stricter says.
                known = wanted.setdefault((mount.id, self._base(mount)), mount)
                if SHARING.index(mount.sharing) > SHARING.index(known.sharing):
                    wanted[mount.id, self._base(mount)] = mount
        for key in sorted(wanted):  # in one order everywhere: two steps never wait for each other
            mount = wanted[key]
            same = [item for item in op.mounts if item.kind == "cache" and (item.id, self._base(item)) == key]
            alone = any(place.startswith(f"{item.target}/") for item in same for place in places)
            sharing = "locked" if alone and mount.sharing == "shared" else mount.sharing
            taken = self._session.store.caches.take(
                self._session, *key, sharing, partial(self._fill, mount), self._cancel
            )
            if taken is None:
                return None
            self._stack.callback(taken.close)
            caches[key] = taken.path
            locks.append(taken.lock)
            if sharing == "shared":
                shared.add(key)
        for number, mount in enumerate(op.mounts):
            if mount.kind == "cache":
                sources[source_name(number)] = caches[mount.id, self._base(mount)]
        options = self._state.options
        names = {
            source_name(number)
            for number, mount in enumerate(op.mounts)
            if mount.kind == "cache" and (mount.id, self._base(mount)) in shared
        }
        return Inputs(sources, options.secrets, options.agents, tuple(locks), frozenset(names))

    def _bind(self, mount: Mount) -> str:
        """The path of what is mounted: in a view, or where it may be written to in a copy that is thrown away."""
        assert mount.origin is not None
        number = self._snapshot(self._state.results[mount.origin])
        if mount.read_only:
            view = self._stack.enter_context(self._session.view(number))
            return _inside(view.path, mount.source)
        active = self._session.prepare(number)
        self._stack.callback(active.discard)
        return _inside(active.path, mount.source)

    def _base(self, mount: Mount) -> str:
        """What a new cache starts with, as a text: another start is another cache, as in BuildKit."""
        start = None if mount.origin is None else [self._state.results[mount.origin].key, mount.source]
        numbers = [mount.mode, mount.uid, mount.gid]
        if start is None and numbers == [None, None, None]:
            return ""
        return cache_key.canonical([start, *numbers])

    def _fill(self, mount: Mount, path: str) -> None:
        if mount.origin is not None:
            from run_step import copy_tree

            with self._session.view(self._snapshot(self._state.results[mount.origin])) as view:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                try:
                    source = os.open(_inside(view.path, mount.source), flags)
                except NotADirectoryError:
                    raise BuildError(f"the source {mount.source} of a cache mount is no directory") from None
                target = os.open(path, flags)
                try:
                    copy_tree(source, target)
                finally:
                    os.close(source)
                    os.close(target)
        if mount.uid is not None or mount.gid is not None:
            own(path, mount.uid or 0, mount.gid or 0, shown=mount.target)
        if mount.mode is not None:
            os.chmod(path, mount.mode)


def _inside(root: str, path: str) -> str:
    """The true path of ``path`` in a tree of the store, links resolved inside it. Raises BuildError for none."""
    with Root(root) as tree:
        try:
            fd = tree.open(path, os.O_PATH)
            try:
                return os.readlink(f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
        except OSError as error:
            shown = (
                "the build context"
                if path.startswith("/content")
                else "the stage or image it is mounted from"
            )
            raise BuildError(f"{path} can't be mounted: {error.strerror} in {shown}") from None
