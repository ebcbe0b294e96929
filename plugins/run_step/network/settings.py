"""Changes of the machine's settings for our network.

They are noted in the network's directory and undone by the last step. The module knows nothing of steps.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

from .. import notes

_FORWARD = "/proc/sys/net/ipv4/ip_forward"
_FORWARD6 = "/proc/sys/net/ipv6/conf/all/forwarding"
_ACCEPT_RA = "/proc/sys/net/ipv6/conf/{}/accept_ra"
_SETTINGS, _DEVICES = "settings.json", "devices.json"
"""Notes: the settings before and after our change; the machine's devices at that time."""


def forward(directory: str, version: int, devices: set[str]) -> str:
    """Let the machine forward packets, and note the setting before; return the empty string, or why it can't.

    ``devices`` are the machine's own devices.
    """
    try:
        if version == 4:
            _set(directory, {_FORWARD: "1"}, devices)
        elif read(_FORWARD6) == "0":
            # A machine that forwards accepts no routes from routers, except with the value 2 (ip-sysctl.rst).
            listening = [
                f"/proc/sys/net/ipv6/conf/{name}/accept_ra" for name in sorted({*devices, "default"})
            ]
            wanted = {path: "2" for path in listening if os.path.exists(path) and read(path) == "1"}
            _set(directory, {**wanted, _FORWARD6: "1"}, devices)
    except OSError as error:
        return f"{error.filename or 'the setting'}: {error.strerror}"
    return ""


def forwards(version: int) -> bool:
    """Whether the machine forwards packets already."""
    try:
        return read(_FORWARD if version == 4 else _FORWARD6) != "0"
    except OSError:
        return False


def has_ipv6(device: str) -> bool:
    """Whether a device may have addresses of IPv6."""
    path = f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
    return os.path.exists(path) and read(path) == "0"


def deafen(device: str) -> None:
    """Make the machine ignore router advertisements from a device of ours. Raises OSError."""
    for name in ("accept_ra", "autoconf", "accept_redirects"):
        path = f"/proc/sys/net/ipv6/conf/{device}/{name}"
        try:
            if read(path) != "0":
                _write(path, "0")
        except FileNotFoundError:
            pass  # a machine without IPv6
        except OSError:
            # In a container IPv6 may be off and the settings read-only; advertisements are ignored there
            # anyway.
            if has_ipv6(device):
                raise


def restore(directory: str, devices: set[str]) -> None:
    """Restore the settings, except those that another program has changed since.

    If the machine has a device that did not exist then, it goes on forwarding: the program that made the
    device found forwarding on, did not have to change it, and needs it.
    """
    known = _settings(directory) or {}
    alone = devices <= set(texts(directory, _DEVICES))
    # A device that listened to routers keeps its 2 as long as the machine forwards: with 1 it would lose its
    # default route.
    # The default for new devices is restored in any case: a bridge for other containers must not accept
    # advertisements.
    for path, (old, ours) in reversed(list(known.items())):
        if (alone or path == _ACCEPT_RA.format("default")) and os.path.exists(path) and read(path) == ours:
            _write(path, old)
    forget(directory, _SETTINGS)
    forget(directory, _DEVICES)


def _set(directory: str, wanted: dict[str, str], devices: set[str]) -> None:
    changed = {path: old for path, value in wanted.items() if (old := read(path)) != value}
    if not changed:
        return
    known = _settings(directory)
    if known is None:
        note(directory, _DEVICES, sorted(devices))
        known = {}
    note(directory, _SETTINGS, {**{path: [old, wanted[path]] for path, old in changed.items()}, **known})
    for path in changed:
        _write(path, wanted[path])


def read(path: str) -> str:
    """Return the value of a setting. Raises OSError."""
    with open(path, encoding="ascii") as stream:
        return stream.read().strip()


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as stream:
        stream.write(value)


def note(directory: str, name: str, value: Any) -> None:
    """Store a JSON value under a name, atomically."""
    path = os.path.join(directory, name)
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    os.rename(path + ".new", path)


def _noted(directory: str, name: str) -> Any:
    """Return a note; None if it does not exist, or is not ours."""
    data = notes.read(directory, name)
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError):
        return None


def texts(directory: str, name: str) -> list[str]:
    """Return a note that is a list of strings, without items of other types."""
    value = _noted(directory, name)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _settings(directory: str) -> dict[str, tuple[str, str]] | None:
    """Return the settings before and after our change: only those that we change, and no other file of the machine."""
    value = _noted(directory, _SETTINGS)
    if not isinstance(value, dict):
        return None
    return {path: (pair[0], pair[1]) for path, pair in value.items() if _is_ours(path) and _is_pair(pair)}


def _is_ours(path: str) -> bool:
    head, tail = _ACCEPT_RA.split("{}")
    device = path.removeprefix(head).removesuffix(tail)
    listening = path == head + device + tail and "/" not in device and device not in ("", ".", "..")
    return path in (_FORWARD, _FORWARD6) or (listening and "\0" not in device)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(item in ("0", "1", "2") for item in pair)


def forget(directory: str, name: str) -> None:
    """Remove a note, and its temporary files that a killed process left."""
    for path in (os.path.join(directory, name), os.path.join(directory, name + ".new")):
        with suppress(FileNotFoundError):
            os.unlink(path)
