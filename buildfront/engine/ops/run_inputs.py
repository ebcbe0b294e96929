"""The inputs of one RUN: views of other steps' results, caches of the store, secrets, agents.

:func:`planned_mounts` returns what the executor is asked for, and touches nothing; :class:`RunInputs` holds what is
behind it for the time of one run.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType

import run_step
from run_step import Root

from ...dockerfile.ignore import literal
from ...dockerfile.mount_flags import SHARING
from ...errors import BuildError
from ...graph.step_graph import Inline, Mount, RunOp
from ...image.owner import own
from ..active_build import ActiveBuild
from ..cache_key import canonical
from ..cancellation import Cancelled
from ..selection import Wanted
from ..state import State
from .run_request import SCRIPT


def planned_mounts(
    op: RunOp, secrets: Container[str], agents: Container[str]
) -> tuple[run_step.RunMount, ...]:
    """Return the mounts to ask the executor for. A secret or an agent that was not given is left out.

    Raise BuildError where it is required.
    """
    out = []
    sockets = 0
    for number, mount in enumerate(op.mounts):
        target = mount.target
        if mount.kind == "ssh":
            target = target or f"{run_step.AGENT_SOCKET}{sockets}"
            sockets += 1
        if mount.kind == "secret" and mount.id not in secrets:
            _missing(mount, f"the secret {mount.id!r}", f"--secret id={mount.id},src=FILE")
            continue
        if mount.kind == "ssh" and mount.id not in agents:
            _missing(mount, f"the SSH agent {mount.id!r}", f"--ssh {mount.id}")
            continue
        out.append(
            run_step.RunMount(
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
    """Return the name that a plan has for the source of a mount."""
    return f"mount-{number}"


def mount_content(state: State, mount: Mount) -> str | None:
    """Return the part of a step's key for the content of a mount; None where a step's result has to be looked into.

    An image and a context have their own keys. A whole result has its key and its snapshot: the same command gives
    other files when it runs again.
    """
    if mount.origin is None:
        return ""
    result = state.results[mount.origin]
    if state.graph.step(mount.origin).op.known_by_key:
        return f"step:{result.key}"
    if mount.source == "/":
        return f"step:{result.key}:{result.snapshot}"
    return state.digests.of_step(Wanted((literal(mount.source),)), result)


def cache_base(state: State, mount: Mount) -> str:
    """Return what a new cache starts with, as text: with another start it is another cache, as in BuildKit."""
    start = None if mount.origin is None else [state.results[mount.origin].key, mount.source]
    numbers = [mount.mode, mount.uid, mount.gid]
    if start is None and numbers == [None, None, None]:
        return ""
    return canonical([start, *numbers])


class RunInputs:
    """The inputs of one RUN, open while it runs. A context manager, which closes them."""

    def __init__(self, build: ActiveBuild) -> None:
        self._build = build
        self._state = build.state
        self._session = build.session
        self._stack = ExitStack()

    def __enter__(self) -> RunInputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def open(self, op: RunOp, places: Iterable[str] = ()) -> run_step.Inputs:
        """Open all that the mounts need. Raise Cancelled when the build was stopped while a cache was waited for.

        ``places`` are the places of all mounts of the step. A shared cache is locked if other mounts lie below
        it, or if only a part of it is mounted: a step that puts a link in the way at the right moment would make an OCI
        runtime create the places of those mounts on the host, or lead this mount out of the cache.
        """
        sources = {
            source_name(number): self._bind(mount)
            for number, mount in enumerate(op.mounts)
            if mount.kind == "bind"
        }
        if op.script is not None:
            sources[SCRIPT] = self._script(op.script)
        by_cache: dict[tuple[str, str], list[tuple[int, Mount]]] = {}
        for number, mount in enumerate(op.mounts):
            if mount.kind == "cache":
                key = (mount.id, cache_base(self._state, mount))
                by_cache.setdefault(key, []).append((number, mount))
        locks: list[int] = []
        shared: set[str] = set()
        for key in sorted(by_cache):  # in one order everywhere: two steps never wait for each other
            mounts = by_cache[key]
            # Two mounts of one cache take it once, in the stricter way: a locked one would wait for itself.
            strictest = max((mount for _, mount in mounts), key=lambda mount: SHARING.index(mount.sharing))
            sharing = strictest.sharing
            crowded = any(
                _part_of_cache(mount) != "/" or any(place.startswith(f"{mount.target}/") for place in places)
                for _, mount in mounts
            )
            if crowded and sharing == "shared":
                sharing = "locked"
            taken = self._session.store.caches.take(
                self._session, *key, sharing, partial(self._fill, strictest), self._state.cancel.event
            )
            if taken is None:
                raise Cancelled
            self._stack.callback(taken.close)
            locks.append(taken.lock)
            names = [source_name(number) for number, _ in mounts]
            for number, mount in mounts:
                sources[source_name(number)] = _inside(taken.path, _part_of_cache(mount), "the cache")
            if sharing == "shared":
                shared.update(names)
        options = self._state.options
        return run_step.Inputs(sources, options.secrets, options.agents, tuple(locks), frozenset(shared))

    def _script(self, script: Inline) -> str:
        """Write a script into a directory of its own, and return the directory. It goes with the session."""
        directory = self._session.directory("script")
        os.chmod(directory, 0o755)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(f"{directory}/{script.name}", flags, 0o700), "wb") as file:
            file.write(script.content.encode("utf-8", "surrogateescape"))
            os.fchmod(file.fileno(), 0o755)  # whatever our umask
        return directory

    def _bind(self, mount: Mount) -> str:
        """Return the path of what is mounted: in a view, or where it may be written to in a copy that is dropped."""
        assert mount.origin is not None
        number = self._build.snapshot(self._state.results[mount.origin])
        if mount.read_only:
            view = self._stack.enter_context(self._session.view(number))
            return _inside(view.path, mount.source)
        active = self._session.prepare(number)
        self._stack.callback(active.discard)
        return _inside(active.path, mount.source)

    def _fill(self, mount: Mount, path: str) -> None:
        """Fill the directory of a new cache."""
        if mount.origin is not None:
            with self._session.view(self._build.snapshot(self._state.results[mount.origin])) as view:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                try:
                    source = os.open(_inside(view.path, mount.source), flags)
                except NotADirectoryError:
                    raise BuildError(
                        f"the source {mount.source} of a cache mount is not a directory"
                    ) from None
                target = os.open(path, flags)
                try:
                    run_step.copy_tree(source, target)
                finally:
                    os.close(source)
                    os.close(target)
        if mount.uid is not None or mount.gid is not None:
            own(path, mount.uid or 0, mount.gid or 0, shown=mount.target)
        if mount.mode is not None:
            os.chmod(path, mount.mode)


def _part_of_cache(mount: Mount) -> str:
    """Return what is mounted of a cache: without ``from``, its source is a directory in it."""
    return mount.source if mount.origin is None else "/"


def _inside(root: str, path: str, tree_name: str = "the stage or image it is mounted from") -> str:
    """Return the real path of ``path`` in a tree of the store, links resolved inside it. Raise BuildError for none."""
    with Root(root) as tree:
        try:
            fd = tree.open(path, os.O_PATH)
            try:
                return os.readlink(f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
        except OSError as error:
            shown = "the build context" if path.startswith("/content") else tree_name
            raise BuildError(f"{path} can't be mounted: {error.strerror} in {shown}") from None
