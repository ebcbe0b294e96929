"""What the instructions of a stage read besides their own stage, and stages that read each other in a circle."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..dockerfile import instructions as ast
from ..dockerfile import words
from ..errors import BuildError
from .settings import COPY_FROM, MOUNT_FROM

_NUMBER = re.compile("[+-]?[0-9]+", re.ASCII)
_LONGEST_NUMBER = 9
"""Digits. Python refuses to read a very long number, and no stage has one."""


class Read(NamedTuple):
    """A name that an instruction reads from, and the form in which errors quote it."""

    name: str
    item: ast.Instruction
    form: str


def reads_of(body: Iterable[ast.Instruction]) -> list[Read]:
    """Return what the instructions read from: stages, images and named contexts."""
    out: list[Read] = []
    for item in body:
        if isinstance(item, ast.Copy) and item.from_:
            out.append(Read(item.from_, item, COPY_FROM))
        elif isinstance(item, ast.Run):
            out += [Read(flag.from_, item, MOUNT_FROM) for flag in item.mounts if flag.from_]
    return out


def number(name: str) -> int | None:
    """Return the number of a stage that ``name`` is, or None. A very long one is larger than any."""
    if not _NUMBER.fullmatch(name):
        return None
    return int(name) if len(name) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER


def check_name(read: Read) -> None:
    """Raise BuildError for a ``--from`` with variables or quotes."""
    if read.form == COPY_FROM and words.expand(read.name, {}) != read.name:
        raise BuildError(
            f"{read.form}{read.name}: it takes no variable",
            hint="name a stage there that says FROM with the variable: FROM ${IMAGE} AS tools",
        )


def check_circles(
    bodies: Sequence[Iterable[ast.Instruction]], stage_of: Callable[[Read], int | None]
) -> None:
    """Raise BuildError, with the place of the instruction that closes it, where stages read each other in a circle."""
    edges: list[Mapping[int, Read]] = []
    for body in bodies:
        found: dict[int, Read] = {}
        for read in reads_of(body):
            index = stage_of(read)
            if index is not None:
                found[index] = read
        edges.append(found)
    done: set[int] = set()
    for first in range(len(edges)):
        if first in done:
            continue
        done.add(first)
        path = {first: iter(edges[first].items())}  # the stages from the first one to the last, in order
        while path:
            index = next(reversed(path))
            step = next(path[index], None)
            if step is None:
                del path[index]
            elif step[0] in path:
                read = step[1]
                raise BuildError(
                    f"{read.form}{read.name}: the stages read each other in a circle",
                    where=read.item.source,
                    hint="a stage can only read stages above it",
                )
            elif step[0] not in done:
                done.add(step[0])
                path[step[0]] = iter(edges[step[0]].items())
