"""Files and JSON from outside: read up to a limit, parsed into plain values of a bounded depth.

Whatever the input is, the result is a value or an error with a message, in bounded time and memory.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from typing import Any

DEEPEST = 100
"""The limit for levels of nesting: Python code that walks a value would fail after some hundreds."""

LARGEST = 16 << 20
"""The limit for a request, or the facts of a host, in bytes."""

SPECIFICATION = 1 << 20
"""The limit for a file that describes devices, hooks, networks or system calls, in bytes."""

_SHORT = 200


class TooLarge(OSError):
    """A file that is larger than the limit for reading it."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {limit} bytes", path)


def short(value: Any) -> str:
    """Return a value's repr, shortened if it is long."""
    if isinstance(value, list | dict | tuple) and value:
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value[: 2 * _SHORT] if isinstance(value, str) else value)
    return text if len(text) <= _SHORT else text[:_SHORT] + "…"


def read(path: str, limit: int, *, regular: bool = False) -> bytes:
    """Return the content of a file, or of a pipe that has a writer; with ``regular`` only of a regular file.

    Never waits for a writer. Raises TooLarge, OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as stream:
        kind = os.fstat(fd).st_mode
        if regular and not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        return read_all(stream, path, limit)


def read_all(stream: Any, path: str, limit: int) -> bytes:
    """Return the rest of a binary stream. Raises TooLarge, OSError."""
    parts, left = [], limit + 1
    while left and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise TooLarge(path, limit)
    return b"".join(parts)


def parse(text: str | bytes, *, limit: int = LARGEST, strict: bool = False) -> Any:
    """Parse JSON (RFC 8259); bytes are UTF-8.

    Raises ValueError for text that is not JSON, has a number that is not valid in JSON, is larger than
    ``limit``, or is nested deeper than :data:`DEEPEST`. ``strict``: also for a duplicate key, of which
    otherwise the last one counts.
    """
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
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        pass  # nested far deeper
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the key {short(twice)} twice")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def is_shallow(value: Any, levels: int = DEEPEST) -> bool:
    """Whether a JSON value has at most this number of levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_shallow(item, levels - 1) for item in inner if isinstance(item, dict | list))


_NODES = 100_000


def parse_yaml(text: str, *, limit: int = SPECIFICATION) -> Any:
    """Parse YAML that can be written as JSON, with its aliases expanded.

    Raises ValueError if it is not, is larger than ``limit``, is nested deeper than :data:`DEEPEST`, or has
    more than a hundred thousand values when it is expanded.
    """
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
    """Return the number of values in a node, with each alias expanded. ``known`` has 0 for nodes being counted."""
    if levels <= 0:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("Circular reference: an alias is part of its own value")
        return known[id(node)]
    known[id(node)] = 0
    count = 1
    if isinstance(node.value, list):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                count += _nodes(part, known, levels - 1)
    known[id(node)] = count
    return count
