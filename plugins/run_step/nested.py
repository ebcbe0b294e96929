"""Where the mounts of a plan come to lie, one in another and through links: a stage's, a cache's, the image's.

Looks, and makes mount points in the root filesystem alone. What it says of a cache that another build is using may have
changed before the step begins; whoever mounts resolves every path inside the root filesystem once more.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from .errors import HostError
from .inputs import Inputs
from .linux.openat2 import components
from .planning import BUNDLE, RunPlan
from .request import wrong_target
from .rootfs import Created, Root

_SOURCES = f"{BUNDLE}/sources/"
_FILES = tuple(f"{BUNDLE}/{name}/" for name in ("files", "private", "agents"))
_MAX_LINKS = 40  # linux/namei.h, MAXSYMLINKS


class _Place(NamedTuple):
    """``real`` has no link in it. ``above`` is the mount that it lies in, empty for the root filesystem. ``there`` is
    None where nobody knows what that mount shows, as for a filesystem of the kernel's. ``through`` are all mounts that
    the way leads through."""

    real: str
    above: str
    there: bool | None
    through: frozenset[str]


def settle(plan: RunPlan, root: Root, inputs: Inputs, created: list[Created]) -> None:
    """Make the mount points that mounts lead to through each other's links, adding to ``created`` what was made.

    Raises HostError for a mount of the RUN instruction that leads where nothing can be mounted, and for one that needs
    a place in a mount that can't be written to.
    """
    mounts = plan.spec["mounts"]
    if not any(item["source"].startswith(_SOURCES) or _is_of_run(item) for item in mounts):
        return
    places: dict[str, Root | None] = {}
    read_only: set[str] = set()
    shared: set[str] = set()
    with ExitStack() as stack:
        for item in mounts:
            path, source = item["destination"], item["source"]
            name = source.removeprefix(_SOURCES) if source.startswith(_SOURCES) else ""
            try:
                place = _find(root, places, path)
                problem = wrong_target(place.real)
                if problem and place.real != path and (name or _is_of_run(item)):
                    raise HostError(f"{path} leads to {place.real} by links: {problem}")
                if place.there is False and not place.above:
                    created += root.make_mount_point(place.real, _is_directory(source, name, inputs))
            except OSError as error:  # of a cache, also what somebody else changes just now
                raise HostError(f"{path} can't be mounted on: {error.strerror}") from None
            for cache in place.through & shared:
                raise HostError(
                    f"{path} is to be mounted in {cache}, a cache that other steps may change at the same time; "
                    "say sharing=locked there"
                )
            if place.there is False and place.above in read_only:
                raise HostError(
                    f"{path} is to be mounted in {place.above}, which is a read-only mount and has no such "
                    "place; make it there before, or mount that with rw"
                )
            for hidden in [other for other in places if (other + "/").startswith(place.real + "/")]:
                del places[hidden]
                read_only.discard(hidden)
                shared.discard(hidden)
            directory = bool(name) and os.path.isdir(inputs.sources[name])
            places[place.real] = stack.enter_context(Root(inputs.sources[name])) if directory else None
            if name and "ro" in item["options"]:
                read_only.add(place.real)
            if name in inputs.shared:
                shared.add(place.real)


def _is_of_run(item: dict[str, Any]) -> bool:
    """Secrets and agents, and every tmpfs but those of the step's own /dev."""
    if item["type"] == "tmpfs":
        return not (item["destination"] + "/").startswith("/dev/")
    return str(item["source"]).startswith(_FILES[1:])


def _is_directory(source: str, name: str, inputs: Inputs) -> bool:
    if name:
        return os.path.isdir(inputs.sources[name])
    if source.startswith(_FILES):
        return False
    return not os.path.isabs(source) or os.path.isdir(source)


def _find(root: Root, places: Mapping[str, Root | None], path: str) -> _Place:
    """``places`` are the mounts so far, by their real paths, with what they show where that is known.

    Raises OSError for what can't be a way.
    """
    todo = components(path)
    real, above, links = "/", "", 0
    through: set[str] = set()
    while todo:
        part = todo.pop(0)
        if part in (".", ".."):
            real = posixpath.dirname(real) if part == ".." else real
            continue
        here = posixpath.join(real, part)
        above = max((top for top in places if here.startswith(top + "/")), key=len, default="")
        through.add(above)
        if here in places:  # the top of a mount is no link
            real = here
            continue
        tree = places[above] if above else root
        status = None if tree is None else tree.lstat(here[len(above) :])
        if status is None:
            rest = posixpath.normpath(posixpath.join(here, *todo))
            return _Place(rest, above, None if tree is None else False, frozenset(through))
        if stat.S_ISLNK(status.st_mode) and tree is not None:
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            with tree.parent(here[len(above) :]) as (fd, name):
                target = os.readlink(name, dir_fd=fd)
            real = "/" if target.startswith("/") else real
            todo[:0] = components(target)
            continue
        if todo and not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here)
        real = here
    return _Place(real, above, True, frozenset(through))
