"""The real places of the mounts of a plan: in one another, and through links of a stage, a cache or the image.

The module looks at paths, and makes mount points only in the root filesystem. A cache that another build is
using may change before the step begins, so the paths are resolved inside the root filesystem again when
mounting.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from .errors import HostError
from .inputs import Inputs
from .linux.openat2 import components
from .planning import BUNDLE, BUNDLE_FILES, RunPlan
from .request import KERNEL, wrong_target
from .rootfs import Created, Root

_SOURCES = f"{BUNDLE}/sources/"
_MADE = f"{BUNDLE}/files/"
Made = Callable[[list[Created]], None]

_MAX_LINKS = 40  # linux/namei.h, MAXSYMLINKS


class _Place(NamedTuple):
    """The place of a path.

    ``real`` has no link in it. ``above`` is the mount that it lies in, empty for the root filesystem.
    ``there`` is None if the mount's contents are not known, as for a filesystem of the kernel. ``through``
    are all mounts on the way.
    """

    real: str
    above: str
    there: bool | None
    through: frozenset[str]


def settle(plan: RunPlan, root: Root, bundle: str, inputs: Inputs, made: Made) -> RunPlan:
    """Make the mount points to which mounts lead through each other's links, and pass them to ``made``.

    Returns the plan with the resolved places of its mounts and devices. A file made for the step is left out
    if it leads into a filesystem of the kernel: the step sees the kernel's. Raises HostError for a mount that
    leads where nothing can be mounted, and for one that needs a place in a mount that can't be written to.
    """
    places: dict[str, Root | None] = {}
    read_only: set[str] = set()
    shared: set[str] = set()
    settled: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for item in plan.spec["mounts"]:
            path, source = item["destination"], item["source"]
            name = source.removeprefix(_SOURCES) if source.startswith(_SOURCES) else ""
            try:
                place = _find(root, places, path)
                problem = wrong_target(place.real) if place.real != path else ""
                if source.startswith(_MADE) and _is_kernels(place.real):
                    continue
                if problem:
                    raise HostError(f"{path} leads to {place.real} by links: {problem}")
                if place.there is False and not place.above:
                    made(root.make_mount_point(place.real, _is_directory(source, name, inputs)))
            except OSError as error:  # in a cache, also because of a change made just now
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
            shown = inputs.sources[name] if name else _shown(item, bundle)
            places[place.real] = stack.enter_context(Root(shown)) if os.path.isdir(shown) else None
            if name and "ro" in item["options"]:
                read_only.add(place.real)
            if name in inputs.shared:
                shared.add(place.real)
            settled.append({**item, "destination": place.real})
        linux = plan.spec["linux"]
        if "devices" in linux:
            linux = {**linux, "devices": [_device(item, root, places) for item in linux["devices"]]}
    return replace(plan, spec={**plan.spec, "mounts": settled, "linux": linux})


def _device(item: dict[str, Any], root: Root, places: Mapping[str, Root | None]) -> dict[str, Any]:
    """Return the device with its directory resolved; a link in the place of the node itself is not followed."""
    head, name = posixpath.split(item["path"])
    try:
        place = _find(root, places, head)
    except OSError as error:
        raise HostError(f"the device {item['path']} can't be made: {error.strerror}") from None
    return {**item, "path": posixpath.join(place.real, name)}


def _shown(item: dict[str, Any], bundle: str) -> str:
    """Return the directory that a mount shows, if it may have untrusted links; else the empty string."""
    source: str = item["source"]
    if item["type"] == "overlay":
        lower = (option[9:] for option in item["options"] if option.startswith("lowerdir="))
        return re.sub(r"\\(.)", r"\1", next(lower, ""))
    if item["type"] != "bind" or (_is_kernels(source) and source == item["destination"]):
        return ""
    return source.replace(BUNDLE, bundle, 1) if source.startswith(BUNDLE) else source


def _is_kernels(path: str) -> bool:
    """Whether the path is, or lies in, a place where a step has a filesystem of the kernel."""
    return (path + "/").startswith(tuple(f"{top}/" for top in KERNEL))


def _is_directory(source: str, name: str, inputs: Inputs) -> bool:
    if name:
        return os.path.isdir(inputs.sources[name])
    if source.startswith(BUNDLE_FILES):
        return False
    return not os.path.isabs(source) or os.path.isdir(source)


def _above(places: Mapping[str, Root | None], path: str) -> str:
    """Return the innermost mount that ``path`` is the top of, or lies in; empty for none."""
    while path != "/" and path not in places:
        path = posixpath.dirname(path)
    return path if path in places else ""


def _one_more(links: int, path: str) -> int:
    if links == _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return links + 1


def _find(root: Root, places: Mapping[str, Root | None], path: str) -> _Place:
    """Resolve ``path``; ``places`` are the mounts so far by their real paths, with their contents if known.

    Raises OSError for a path that can't be resolved.
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
        above = _above(places, posixpath.dirname(here))
        through.add(above)
        if here in places:  # the top of a mount is not a link
            real = here
            continue
        tree = places[above] if above else root
        status = None if tree is None else tree.lstat(here[len(above) :])
        if status is None:
            rest = posixpath.normpath(posixpath.join(here, *todo))
            if ".." in todo:  # it may lead back to an existing path, which may be a link
                links = _one_more(links, path)
                real, todo = "/", components(rest)
                continue
            return _Place(rest, above, None if tree is None else False, frozenset(through))
        if stat.S_ISLNK(status.st_mode) and tree is not None:
            links = _one_more(links, path)
            with tree.parent(here[len(above) :]) as (fd, name):
                target = os.readlink(name, dir_fd=fd)
            real = "/" if target.startswith("/") else real
            todo[:0] = components(target)
            continue
        if todo and not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here)
        real = here
    return _Place(real, above, True, frozenset(through))
