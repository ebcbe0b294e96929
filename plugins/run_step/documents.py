"""Files and JSON that come from outside: read up to a limit, parsed into plain values of a bounded depth.

Whatever they hold, the outcome is a value or an error in words, in bounded time and memory.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from typing import Any

DEEPEST = 100
"""Levels of nesting: what is done with it by Python would end at some hundreds."""

LARGEST = 16 << 20
"""Bytes of a request, or of the facts of a host."""

SPECIFICATION = 1 << 20
"""Bytes of a file that describes devices, hooks, networks or system calls."""

_SHORT = 200


class TooLarge(OSError):
    """A file that is larger than what is read of it."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {limit} bytes", path)


def short(value: Any) -> str:
    """A value as Python writes it, cut off where it is long."""
    if isinstance(value, list | dict | tuple) and value:
        return {list: "a list", tuple: "a list", dict: "an object"}[type(value)]
    text = repr(value[: 2 * _SHORT] if isinstance(value, str) else value)
    return text if len(text) <= _SHORT else text[:_SHORT] + "…"


def read(path: str, limit: int, *, regular: bool = False) -> bytes:
    """The content of a file; with ``regular`` of a regular one alone, else of a pipe too, which somebody writes to.

    Raises TooLarge, and OSError: an open that would wait for a writer does not.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as stream:
        kind = os.fstat(fd).st_mode
        if regular and not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        return read_all(stream, path, limit)


def read_all(stream: Any, path: str, limit: int) -> bytes:
    """What is left of a binary stream. Raises TooLarge, OSError."""
    parts, left = [], limit + 1
    while left and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise TooLarge(path, limit)
    return b"".join(parts)


def parse(text: str | bytes, *, limit: int = LARGEST, strict: bool = False) -> Any:
    """JSON (RFC 8259), in UTF-8 where it is bytes. Raises ValueError for what is none, has a number that JSON does not
    know, is larger than ``limit``, or nested deeper than :data:`DEEPEST`; ``strict``: for a key that is there twice,
    of which the last one counts otherwise."""
    if len(text) > limit:
        raise ValueError(f"it is larger than {limit} bytes")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        hook = _object if strict else None
        value = json.loads(text, object_pairs_hook=hook, parse_constant=_constant)
        if is_shallow(value):
            return value
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text") from None
    except RecursionError:
        pass  # deeper by far
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the key {short(twice)} twice")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def is_shallow(value: Any, levels: int = DEEPEST) -> bool:
    """Whether a JSON value is nested no deeper than that."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_shallow(item, levels - 1) for item in inner if isinstance(item, dict | list))


_NODES = 100_000


def parse_yaml(text: str, *, limit: int = SPECIFICATION) -> Any:
    """YAML that JSON could hold, its aliases expanded. Raises ValueError for what is none, is larger than ``limit``,
    nested deeper than :data:`DEEPEST`, or of more than a hundred thousand values when it is expanded."""
    import yaml

    if len(text) > limit:
        raise ValueError(f"it is larger than {limit} bytes")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _nodes(node, {}, DEEPEST) > _NODES:
            raise ValueError(f"it has more than {_NODES} values when its aliases are expanded")
        value = loader.construct_document(node)
        return parse(json.dumps(value, allow_nan=False), limit=64 * limit)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[: 2 * _SHORT]) from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)[:_SHORT]) from None
    finally:
        if loader is not None:
            loader.dispose()


def _nodes(node: Any, known: dict[int, int], levels: int) -> int:
    """How many values a node stands for, each alias counted as what it stands for. ``known`` has 0 for those that are
    being counted."""
    if levels <= 0:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("Circular reference: an alias lies in what it stands for")
        return known[id(node)]
    known[id(node)] = 0
    count = 1
    if isinstance(node.value, list):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                count += _nodes(part, known, levels - 1)
    known[id(node)] = count
    return count
